//! What packages a root file system has: package databases and SBOMs as values.
//!
//! Not here: where root file systems and SBOMs are from, and what is done with the answer.
