"""The Avro schemas: one file per kind of record."""
