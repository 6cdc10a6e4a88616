//! The state store: runs, the ledger of units and pulls, and the leases on them.
