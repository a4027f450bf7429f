//! thalweg-protocol
