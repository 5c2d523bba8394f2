//! A deployment like the one that is tested, which no fault touches: what it takes to answer is what the machine is worth
//! at the moment, whatever else it has to do.

use crate::{Cluster, history::History};

/// A running twin, on servers of its own.
pub struct Twin {
    _cluster: Cluster,
    /// Where it is asked.
    pub(crate) nodes: Vec<String>,
    /// What its clients did; nobody judges it.
    pub(crate) history: History,
}

impl Twin {
    /// Starts one with these roles.
    pub async fn start(kinds: &[&str]) -> Self {
        let mut cluster = Cluster::with_own_postgres(&[], "").await;
        let mut nodes = Vec::new();
        for kind in kinds {
            let node = cluster.start(kind, &[]).await;
            if *kind == "api" {
                nodes.push(cluster.url(node));
            }
        }
        Self { _cluster: cluster, nodes, history: History::default() }
    }
}
