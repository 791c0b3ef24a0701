//! A cluster whose proxies can be killed and restarted on their ports.

use super::node::own_host;
use super::{Address, Data, Node, Start, until};

/// The number of documents: `article/1` and so on.
pub(crate) const DOCUMENTS: u64 = 20;
/// Frequent polls.
pub(crate) const POLLS: &str = "--health-interval 200ms";

/// An origin, three proxies on their own host, and a balancer that knows them as healthy.
pub(crate) struct Cluster {
    pub(crate) data: Data,
    pub(crate) origin: Node,
    pub(crate) proxies: Vec<Node>,
    pub(crate) balancer: Node,
}

impl Cluster {
    /// Starts all nodes; `words` are flags of the balancer.
    pub(crate) fn start(words: &str) -> Self {
        let data = Data::articles(DOCUMENTS as u32);
        let host = own_host();
        let origin = Start::origin(data.path(), &format!("--host {host}")).run();
        let proxies: Vec<Node> = (0..3).map(|_| proxy(&origin, Address((host, 0).into()))).collect();
        let addresses: Vec<Address> = proxies.iter().map(|proxy| proxy.address).collect();
        let balancer = Start::balancer(&addresses, &format!("{POLLS} {words}")).run();
        let cluster = Self { data, origin, proxies, balancer };
        addresses.iter().for_each(|&address| cluster.await_health(address, true));
        cluster
    }

    /// `kill -9` of one proxy; returns its address.
    pub(crate) fn kill(&mut self, index: usize) -> Address {
        let victim = self.proxies.remove(index);
        let address = victim.address;
        victim.kill();
        address
    }

    /// Starts a proxy on the address of a dead one, as the last of the list.
    pub(crate) fn restart(&mut self, address: Address) {
        let back = proxy(&self.origin, address);
        assert_eq!(back.address, address);
        self.proxies.push(back);
    }

    pub(crate) fn await_health(&self, address: Address, healthy: bool) {
        until(&format!("healthy is {healthy}"), || self.balancer.holds_healthy(address) == healthy);
    }
}

/// A proxy at an address; port 0 is any port.
pub(crate) fn proxy(origin: &Node, address: Address) -> Node {
    let place = format!("--host {} --port {}", address.host(), address.port());
    Start::proxy(origin.address, &place).run()
}
