//! Who gets a connection: as many as there are places, and of one address no more than its share.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum_server::accept::Accept;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tower::Service;

use super::listen::Admission;
use super::metrics::{Refusal, ServerMetrics};

/// Lets connections in, before their handshakes cost anything.
#[derive(Clone)]
pub(super) struct Door {
    places: Arc<Places>,
    metrics: ServerMetrics,
}

/// Whether a connection was refused for want of a place.
pub(super) fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::QuotaExceeded
}

impl Door {
    pub(super) fn new(admission: &Admission, metrics: &ServerMetrics) -> Self {
        Self {
            places: Arc::new(Places {
                in_all: admission.connections,
                of_address: admission.connections_of_address,
                taken: Mutex::default(),
            }),
            metrics: metrics.clone(),
        }
    }

    fn place(&self, stream: &TcpStream) -> io::Result<Arc<Place>> {
        let address = stream.peer_addr()?.ip().to_canonical();
        self.places.take(address).map(Arc::new).map_err(|refusal| {
            self.metrics.count(refusal);
            io::ErrorKind::QuotaExceeded.into()
        })
    }
}

impl<S> Accept<TcpStream, S> for Door {
    type Stream = TcpStream;
    type Service = Seated<S>;
    type Future = Ready<io::Result<(TcpStream, Seated<S>)>>;

    fn accept(&self, stream: TcpStream, inner: S) -> Self::Future {
        ready(self.place(&stream).and_then(|place| {
            stream.set_nodelay(true)?;
            let seated = Seated {
                inner,
                _place: place,
            };
            Ok((stream, seated))
        }))
    }
}

/// The service of one connection, which keeps the connection's place as long as it lives.
#[derive(Clone)]
pub(super) struct Seated<S> {
    inner: S,
    _place: Arc<Place>,
}

impl<S, R> Service<R> for Seated<S>
where
    S: Service<R, Error = Infallible>,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        self.inner.call(request)
    }
}

struct Places {
    in_all: usize,
    of_address: usize,
    taken: Mutex<Taken>,
}

/// An address is there as long as it has a connection: no more addresses than places.
#[derive(Default)]
struct Taken {
    in_all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, Refusal> {
        let mut taken = self.taken.lock();
        if taken.in_all >= self.in_all {
            return Err(Refusal::Connections);
        }
        let of_address = taken.by_address.get(&address).copied().unwrap_or(0);
        if of_address >= self.of_address {
            return Err(Refusal::ConnectionsOfAddress);
        }
        taken.in_all += 1;
        taken.by_address.insert(address, of_address + 1);
        drop(taken);
        Ok(Place {
            places: Arc::clone(self),
            address,
        })
    }
}

/// Given back when dropped.
struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.in_all -= 1;
        if let Entry::Occupied(mut of_address) = taken.by_address.entry(self.address) {
            *of_address.get_mut() -= 1;
            if *of_address.get() == 0 {
                of_address.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn places(in_all: usize, of_address: usize) -> Arc<Places> {
        Arc::new(Places {
            in_all,
            of_address,
            taken: Mutex::default(),
        })
    }

    #[test]
    fn no_address_takes_more_than_its_share_and_all_together_no_more_than_there_are() {
        let [a, b] = [1, 2].map(|last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last)));
        let places = places(3, 2);
        let refused = |address| places.take(address).err();
        let first = places.take(a).ok();
        let _second = places.take(a).ok();
        assert_eq!(refused(a), Some(Refusal::ConnectionsOfAddress));
        let other = places.take(b).ok();
        assert_eq!(refused(b), Some(Refusal::Connections));
        // A place that is given back can be had again, and an address without one is forgotten.
        drop(first);
        assert_eq!(refused(a), None);
        drop(other);
        assert_eq!(places.taken.lock().by_address.len(), 1);
    }
}
