//! Allocations, counted by the allocator of this test binary.

mod access;
mod pass_through;
mod rotation;
