//! How much of a large request is worth being woken for: `SO_RCVLOWAT` of its socket. A request of a megabyte arrives in dozens of
//! pieces, and to look at each costs more than to copy it.

use tokio::{io::AsyncRead, net::tcp::OwnedReadHalf};

/// What is waited for at most. Senders' buffers hold about as much.
const MOST: usize = 256 * 1024;
/// What isn't worth a wait.
const LEAST: usize = 64 * 1024;

/// A connection's incoming bytes.
pub(super) trait Incoming: AsyncRead + Unpin {
    /// From now on a reader is woken only when so many bytes can be read, or the other end has closed it. Never more than what is
    /// sure to come. It may be without effect.
    fn set_low_water(&self, bytes: usize);
}

impl Incoming for OwnedReadHalf {
    #[cfg(target_os = "linux")]
    #[expect(unsafe_code, reason = "no library offers this option")]
    fn set_low_water(&self, bytes: usize) {
        use std::{ffi::c_int, os::fd::AsRawFd, ptr};
        let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX);
        let size = size_of::<c_int>() as libc::socklen_t;
        // SAFETY: the option is an integer, of which a pointer and the size are given; the descriptor is open while `self` is. A
        // failure leaves the old mark.
        unsafe {
            let value = ptr::from_ref(&bytes).cast();
            libc::setsockopt(self.as_ref().as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, value, size);
        }
    }

    /// Only Linux wakes by it.
    #[cfg(not(target_os = "linux"))]
    fn set_low_water(&self, _: usize) {}
}

/// The mark of a connection, which is set only where it changes.
pub(super) struct LowWater(usize);

impl Default for LowWater {
    /// That of a new connection.
    fn default() -> Self {
        Self(1)
    }
}

impl LowWater {
    /// What to wait for, of `left` bytes that are sure to come.
    pub(super) fn for_the_next(left: usize) -> usize {
        if left < LEAST { 1 } else { left.min(MOST) }
    }

    pub(super) fn set(&mut self, connection: &impl Incoming, bytes: usize) {
        if self.0 != bytes {
            self.0 = bytes;
            connection.set_low_water(bytes);
        }
    }
}

#[cfg(test)]
impl Incoming for tokio::io::DuplexStream {
    fn set_low_water(&self, _: usize) {}
}
