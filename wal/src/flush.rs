//! Flush: writes what is in the WAL, from memory, as larger and better sorted segments.
