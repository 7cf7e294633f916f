//! Tests of the watcher.
