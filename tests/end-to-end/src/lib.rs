//! thalweg-end-to-end
