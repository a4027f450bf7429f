//! thalweg-simulation
