//! Execution: walks a plan; the dispatcher owns what happens, workers do it.
