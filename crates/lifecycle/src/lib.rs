//! The phases of the CNB lifecycle, one file each.
