//! What tests and fuzz targets are made of: [`simulation`], a group of nodes in virtual time, and
//! [`fuzzing`], one function for each fuzz target. Not in what is shipped.

pub mod fuzzing;
#[cfg(test)]
mod simulation;
