//! What flowd's kernel side and user side share.
#![no_std]
