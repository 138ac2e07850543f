//! Network namespaces made ahead: loopback up, DNS sockets bound and redirected.
//! Making one takes the better part of a millisecond that a start need not wait for.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ferry_sys::netlink::Family;
use ferry_sys::network_namespace::NetworkNamespace;

use crate::dns::{DNS_ADDRESS, DnsSockets};
use crate::kernel::{set_up, write_sysctl};
use crate::netlink::{Batch, Connection};
use crate::nft::redirect_dns;

use super::ServiceError;

/// Namespaces kept ready; more are made on demand when many start at once.
const READY: usize = 5;
/// How long the next one is not begun after one was taken: making it holds the kernel's lock of all network settings
/// (rtnl), and the start that took the last one needs that lock and the processors; some ten milliseconds later it is
/// done.
const PAUSE: Duration = Duration::from_millis(25);
const STACK_BYTES: usize = 256 << 10;

/// A namespace with everything in it that does not depend on the container.
#[derive(Debug)]
pub(super) struct ReadyNamespace {
    pub(super) namespace: NetworkNamespace,
    /// An rtnetlink socket inside it.
    pub(super) route: Connection,
    pub(super) dns: DnsSockets,
}

impl ReadyNamespace {
    /// Makes one; the calling thread is back in `home` afterwards.
    pub(super) fn make(home: &NetworkNamespace) -> Result<Self, ServiceError> {
        let namespace =
            NetworkNamespace::create(home).map_err(ServiceError::errno("create a network namespace"))?;
        let (route, dns) = namespace
            .run_inside(home, prepare)
            .map_err(ServiceError::errno("enter a network namespace"))??;
        Ok(Self { namespace, route, dns })
    }

    /// Enters an existing namespace again: its sockets are made anew.
    pub(super) fn adopt(namespace: NetworkNamespace, home: &NetworkNamespace) -> Result<Self, ServiceError> {
        let (route, dns) = namespace
            .run_inside(home, || Ok::<_, ServiceError>((Connection::open(Family::Route)?, serve_dns()?)))
            .map_err(ServiceError::errno("enter a network namespace"))??;
        Ok(Self { namespace, route, dns })
    }
}

fn prepare() -> Result<(Connection, DnsSockets), ServiceError> {
    let mut route = Connection::open(Family::Route)?;
    let mut batch = Batch::new();
    set_up(&mut batch, "lo");
    route.execute(&batch)?;
    // Interfaces that come later have IPv6 only when their network has, and never
    // take addresses or routes from whoever advertises some. A kernel without
    // IPv6 has none of these files.
    if crate::kernel::read_sysctl("net/ipv6/conf/default/disable_ipv6").is_some() {
        write_sysctl("net/ipv6/conf/default/accept_ra", "0")?;
        write_sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
    }
    Ok((route, serve_dns()?))
}

fn serve_dns() -> Result<DnsSockets, ServiceError> {
    let bind = ServiceError::io("bind the DNS sockets in a network namespace");
    let sockets = DnsSockets::bind().map_err(bind)?;
    let (udp, tcp) = sockets.ports().map_err(ServiceError::io("read the DNS sockets' ports"))?;
    redirect_dns(DNS_ADDRESS, udp, tcp)?;
    Ok(sockets)
}

#[derive(Debug, Default)]
struct Shelf {
    ready: Mutex<VecDeque<ReadyNamespace>>,
    taken: Condvar,
}

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, VecDeque<ReadyNamespace>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Namespaces waiting for their container.
#[derive(Debug)]
pub(super) struct Pool {
    shelf: Arc<Shelf>,
    home: NetworkNamespace,
}

impl Pool {
    /// Starts the thread that keeps it filled.
    pub(super) fn start() -> Result<Self, ServiceError> {
        let open = || NetworkNamespace::current().map_err(ServiceError::errno("open the host's network"));
        let shelf = Arc::new(Shelf::default());
        let (filling, home) = (Arc::clone(&shelf), open()?);
        std::thread::Builder::new()
            .name("netns".into())
            .stack_size(STACK_BYTES)
            .spawn(move || keep_filled(&filling, &home))
            .map_err(ServiceError::io("start the netns thread"))?;
        Ok(Self { shelf, home: open()? })
    }

    /// A ready namespace, or one made now.
    pub(super) fn take(&self) -> Result<ReadyNamespace, ServiceError> {
        let ready = self.shelf.lock().pop_front();
        self.shelf.taken.notify_one();
        ready.map_or_else(|| ReadyNamespace::make(&self.home), Ok)
    }
}

fn keep_filled(shelf: &Shelf, home: &NetworkNamespace) {
    loop {
        let full = shelf
            .taken
            .wait_while(shelf.lock(), |ready| ready.len() >= READY)
            .unwrap_or_else(PoisonError::into_inner);
        let in_no_hurry = full.len() > 1;
        drop(full);
        if in_no_hurry {
            std::thread::sleep(PAUSE);
        }
        match ReadyNamespace::make(home) {
            Ok(made) => shelf.lock().push_back(made),
            Err(error) => {
                // Whoever needs one now tries again and reports; here only the pace matters.
                tracing::warn!(%error, "no network namespace could be made ahead");
                let pause = Duration::from_secs(1);
                drop(shelf.taken.wait_timeout(shelf.lock(), pause));
            }
        }
    }
}
