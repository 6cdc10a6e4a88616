//! Drift: what re-pulls changed, by the age of the unit, and the lookback that this advises.
