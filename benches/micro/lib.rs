//! The idea files of each design, measured; the benchmarks themselves stand beside this file.
