//! Planning: from project, ledger and request to a plan; pure functions.
