//! Several nodes of each kind: any may die, all may be replaced (R-18, item by item and under load).

use polyphony_testkit::free_port;
use polyphony_tests::{Cluster, Node, Sampler, audit::audit, history::History, load::Load};

/// Two nodes that keep their addresses, three workers, two projectors and two relays.
async fn fleet(cluster: &mut Cluster) -> (Vec<(&'static str, Option<u16>, Node)>, Vec<String>) {
    let mut fleet = Vec::new();
    for port in [free_port(), free_port()] {
        let address = format!("127.0.0.1:{port}");
        let node = cluster.spawn("api", &[("POLYPHONY_HTTP_ADDR", address.as_str())]);
        fleet.push(("api", Some(port), node));
    }
    let others = ["worker", "worker", "worker", "projector", "projector", "relay", "relay"];
    let nodes = cluster.start_all(others).await;
    fleet.extend(others.into_iter().zip(nodes).map(|(kind, node)| (kind, None, node)));
    for (_, port, node) in &fleet {
        if let Some(port) = port {
            cluster.role(*node).wait_for_status(*port, "/readyz", 200).await;
        }
    }
    let urls = fleet.iter().filter_map(|(_, port, _)| port.map(|port| format!("http://127.0.0.1:{port}"))).collect();
    (fleet, urls)
}

async fn start(cluster: &mut Cluster, kind: &str, port: Option<u16>) -> Node {
    let address = format!("127.0.0.1:{}", port.unwrap_or_default());
    let further: &[(&str, &str)] = if port.is_some() { &[("POLYPHONY_HTTP_ADDR", address.as_str())] } else { &[] };
    cluster.start(kind, further).await
}

#[tokio::test]
async fn replacing_every_role_under_load_fails_no_request_for_good() {
    let mut cluster = Cluster::new(&[("POLYPHONY_DATABASE__MAX_CONNECTIONS", "4")], "").await;
    let (fleet, urls) = fleet(&mut cluster).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let load = Load::start(&urls, &history, 6, &["emu/plain-n40-i10", "emu/plain", "emu/plain-n80-i20"]).await;
    load.more(&history, 6).await;
    for (kind, port, node) in fleet {
        // Told to stop, each ends by itself and in order, whatever it is at.
        cluster.role(node).sigterm();
        assert_eq!(cluster.role(node).exit_code().await, Some(0), "{kind}:\n{}", cluster.role(node).log());
        start(&mut cluster, kind, port).await;
    }
    load.more(&history, 6).await;
    load.finish().await;
    for ask in history.asks() {
        assert_eq!(ask.end.as_ref().map(|(event, _)| event.as_str()), Some("done"), "{ask:?}");
    }
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn any_one_of_several_may_die() {
    let mut cluster = Cluster::new(&[("POLYPHONY_DATABASE__MAX_CONNECTIONS", "4")], "").await;
    let (fleet, urls) = fleet(&mut cluster).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let load = Load::start(&urls, &history, 6, &["emu/plain-n40-i10", "emu/plain", "emu/plain-n80-i20"]).await;
    // One of each kind, for good: the first node, two of three workers, the first projector, the leading relay.
    for index in [0, 2, 3, 5, 7] {
        load.more(&history, 3).await;
        cluster.role(fleet[index].2).kill9();
    }
    load.more(&history, 6).await;
    load.finish().await;
    for ask in history.asks() {
        assert_eq!(ask.end.as_ref().map(|(event, _)| event.as_str()), Some("done"), "{ask:?}");
    }
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn a_second_signal_ends_a_role_at_once() {
    let mut cluster = Cluster::new(&[("POLYPHONY_WORKER__DRAIN_SECONDS", "600")], "plain-n3000-i20").await;
    let [api, _, _, worker] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    let history = History::default();
    let person = polyphony_tests::Person::register(&[cluster.url(api)], &history).await;
    let session = person.session("emu/plain-n3000-i20").await;
    let mut asking = person.asking(session, "emu/plain-n3000-i20");
    asking.until_text(50).await;
    cluster.role(worker).sigterm();
    cluster.role(worker).wait_for_log("draining").await;
    cluster.role(worker).sigterm();
    cluster.role(worker).exit_code().await;
    asking.finish();
}
