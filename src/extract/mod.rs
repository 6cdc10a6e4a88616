//! Extraction: from an API to durable pages, politely and without losing any.
