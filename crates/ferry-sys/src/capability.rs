//! Capability sets of the calling thread, as bit masks over capability numbers.

use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::clone::last_errno;

/// Takes every capability not in `keep` out of the bounding set.
///
/// Numbers run to the kernel's own last capability, so that ones newer than this program go too.
pub fn limit_bounding(keep: u64) -> Result<(), Errno> {
    let dropped = known() & !keep;
    (0..64)
        .filter(|number| dropped & (1 << number) != 0)
        .try_for_each(|number| prctl(libc::PR_CAPBSET_DROP, number, 0))
}

/// The capabilities the running kernel knows, as a mask; asked once per process, forks included.
pub fn known() -> u64 {
    static KNOWN: OnceLock<u64> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let mut mask = 0;
        for number in 0..64 {
            // SAFETY: PR_CAPBSET_READ takes an integer and changes nothing.
            if unsafe { libc::prctl(libc::PR_CAPBSET_READ, number as libc::c_ulong, 0, 0, 0) } < 0 {
                break;
            }
            mask |= 1 << number;
        }
        mask
    })
}

/// Sets the effective, permitted and inheritable sets.
pub fn set(effective: u64, permitted: u64, inheritable: u64) -> Result<(), Errno> {
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: CapabilitySet::from_bits_retain(effective),
            permitted: CapabilitySet::from_bits_retain(permitted),
            inheritable: CapabilitySet::from_bits_retain(inheritable),
        },
    )
}

/// The permitted set of the calling thread.
pub fn permitted() -> Result<u64, Errno> {
    Ok(rustix::thread::capabilities(None)?.permitted.bits())
}

/// Makes the ambient set exactly `mask`; each must be permitted and inheritable.
pub fn set_ambient(mask: u64) -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0)?;
    for number in (0..64).filter(|number| mask & (1 << number) != 0) {
        prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong, number)?;
    }
    Ok(())
}

fn prctl(option: i32, first: libc::c_ulong, second: libc::c_ulong) -> Result<(), Errno> {
    // SAFETY: the options used here take integers only and touch no memory.
    match unsafe { libc::prctl(option, first, second, 0 as libc::c_ulong, 0 as libc::c_ulong) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}
