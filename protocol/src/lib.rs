//! memcached dialects as values.
