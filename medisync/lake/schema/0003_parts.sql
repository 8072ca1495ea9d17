-- A delivery may consist of several files, or of several sheets of one: its parts. Row numbers count within a part.
ALTER TABLE clinical.quarantine ADD COLUMN part VARCHAR;
