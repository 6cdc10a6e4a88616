//! The shape of rows: the types that JSON values were seen to have, merged over all rows of a pull.
