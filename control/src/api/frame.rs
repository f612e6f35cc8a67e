//! A frame is four bytes of length (big endian) and that many bytes of JSON. Both ends refuse a longer frame than [`MAX_FRAME`] before
//! they read it, so that nobody can make the other allocate without bound.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The longest JSON text in a frame, in bytes, in either direction.
pub const MAX_FRAME: usize = 1 << 20;

/// Bytes in front of the JSON text.
pub const LENGTH_BYTES: usize = 4;

/// What can be wrong with a frame.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The other end closed the connection between two frames.
    #[error("the other end closed the connection")]
    Closed,
    /// The length in front is over the limit.
    #[error("a frame of {length} bytes is longer than the limit of {MAX_FRAME} bytes")]
    TooLong {
        /// What the length field said, or what the message came to.
        length: usize,
    },
    /// Not the JSON that was expected.
    #[error("the frame is not a message that this version understands: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The length that the four bytes in front announce, checked against the limit.
pub fn checked_length(prefix: [u8; LENGTH_BYTES]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(prefix) as usize;
    if length > MAX_FRAME {
        Err(FrameError::TooLong { length })
    } else {
        Ok(length)
    }
}

/// The whole frame, length included.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; LENGTH_BYTES];
    serde_json::to_writer(&mut frame, message)?;
    let length = frame.len() - LENGTH_BYTES;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong { length });
    }
    frame[..LENGTH_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(frame)
}

/// Writes one message.
pub fn write<T: Serialize>(stream: &mut impl Write, message: &T) -> Result<(), FrameError> {
    Ok(stream.write_all(&encode(message)?)?)
}

/// Reads one message.
pub fn read<T: DeserializeOwned>(stream: &mut impl Read) -> Result<T, FrameError> {
    let mut prefix = [0; LENGTH_BYTES];
    let first = stream.read(&mut prefix)?;
    if first == 0 {
        return Err(FrameError::Closed);
    }
    stream.read_exact(&mut prefix[first..])?;
    let length = checked_length(prefix)?;
    let mut body = Vec::new();
    // Grows with what arrives, not with what was announced.
    if stream.take(length as u64).read_to_end(&mut body)? < length {
        return Err(FrameError::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(serde_json::from_slice(&body)?)
}
