//! DPDK's own messages go to our log.

use std::ffi::{c_char, c_void};
use std::sync::Mutex;

use tracing::{debug, warn};

use super::error::Error;
use super::ffi;

/// `RTE_LOG_WARNING`: what is less urgent (a higher number) is for those who ask for it.
const WARNING: i32 = 5;

/// The beginning of a line whose end has not come yet.
static UNFINISHED: Mutex<String> = Mutex::new(String::new());

/// Sends all further messages of DPDK to our log, also those of its start.
pub(super) fn capture() -> Result<(), Error> {
    let functions = ffi::cookie_io_functions_t {
        write: Some(write),
        ..Default::default()
    };
    // SAFETY: the mode is a constant text; `write` needs no cookie. The stream lives as long as the process.
    let stream = unsafe { ffi::fopencookie(std::ptr::null_mut(), c"w".as_ptr(), functions) };
    if stream.is_null() {
        return Err(Error::Call {
            action: "opening a stream for DPDK's messages".to_owned(),
            source: std::io::Error::last_os_error(),
        });
    }
    // SAFETY: an open stream; DPDK flushes it after each message.
    unsafe { ffi::rte_openlog_stream(stream) };
    Ok(())
}

/// Called by the C library with what DPDK wrote. It must not fail: whoever logs would see that.
unsafe extern "C" fn write(_cookie: *mut c_void, text: *const c_char, length: usize) -> ffi::__ssize_t {
    // SAFETY: the C library passes a buffer of this length.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) };
    // SAFETY: reads a thread-local integer.
    let level = unsafe { ffi::rte_log_cur_msg_loglevel() };
    let Ok(mut unfinished) = UNFINISHED.try_lock() else {
        return length as ffi::__ssize_t;
    };
    for part in String::from_utf8_lossy(bytes).split_inclusive('\n') {
        unfinished.push_str(part);
        if part.ends_with('\n') {
            let line = std::mem::take(&mut *unfinished);
            let line = line.trim_end();
            if level <= WARNING {
                warn!("DPDK: {line}")
            } else {
                debug!("DPDK: {line}")
            }
        }
    }
    length as ffi::__ssize_t
}
