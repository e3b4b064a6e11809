//! Buffers of a core, kept for the next transfer.

use std::cell::RefCell;

use crate::limits;

/// Octets of a chunk buffer: a chunk sealed into full records, and room for a cut record.
pub const BUFFER_OCTETS: usize = limits::TRANSFER_CHUNK_OCTETS + 32 * 1024;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static VECTORS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A chunk buffer of this core, [`BUFFER_OCTETS`] long, with whatever it held before.
#[must_use]
pub fn take_buffer() -> Vec<u8> {
    let kept = BUFFERS.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(|| vec![0; BUFFER_OCTETS])
}

/// Gives a chunk buffer back for the next transfer; one of another length is freed.
pub fn give_buffer(buffer: Vec<u8>) {
    if buffer.len() == BUFFER_OCTETS {
        BUFFERS.with_borrow_mut(|kept| keep(kept, buffer));
    }
}

/// An empty vector of this core that has, or soon gets, the capacity of a chunk.
#[must_use]
pub fn take_vector() -> Vec<u8> {
    VECTORS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives a vector back for the next transfer.
pub fn give_vector(mut vector: Vec<u8>) {
    if vector.capacity() >= limits::TRANSFER_CHUNK_OCTETS && vector.capacity() <= 2 * BUFFER_OCTETS
    {
        vector.clear();
        VECTORS.with_borrow_mut(|kept| keep(kept, vector));
    }
}

fn keep(kept: &mut Vec<Vec<u8>>, buffer: Vec<u8>) {
    if kept.len() < limits::TRANSFER_BUFFERS_KEPT_MAX {
        kept.push(buffer);
    }
}
