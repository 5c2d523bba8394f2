//! Providers misbehave in every way that is known of them (V-01 … V-07).

use polyphony_tests::{Cluster, Person, Sampler, audit::audit, history::History};

/// What is to come of a misbehaviour: the last event, its `finish_reason` or `code`, and the calls that are made.
type Case = (&'static str, &'static str, &'static str, usize);

const CASES: [Case; 37] = [
    // V-01: silence before the head, after it, after text; comments that only look alive.
    ("headless-first1", "done", "stop", 2),
    ("headless", "error", "PROVIDER_TIMEOUT", 3),
    ("silent-first1", "done", "stop", 2),
    ("onlypings-first1", "done", "stop", 2),
    ("stuck", "error", "PROVIDER_TIMEOUT", 1),
    ("pings", "error", "PROVIDER_TIMEOUT", 1),
    // V-02: ends that are none.
    ("fin", "error", "PROVIDER_ERROR", 1),
    ("cut", "error", "PROVIDER_ERROR", 1),
    ("fin-at0-first1", "done", "stop", 2),
    ("cut-at0-first2", "done", "stop", 3),
    // V-03: bytes cut anywhere.
    ("slice1", "done", "stop", 1),
    ("slice2-crlf", "done", "stop", 1),
    ("slice3-bom", "done", "stop", 1),
    ("crlf-bom-slice1", "done", "stop", 1),
    // V-04: refusals that pass, and one that doesn't.
    ("s429-ra1-first1", "done", "stop", 2),
    ("s429-radate-first1", "done", "stop", 2),
    ("s429-first2", "done", "stop", 3),
    ("s529-first1", "done", "stop", 2),
    ("s503-ra0-first1", "done", "stop", 2),
    ("s429-ra3600", "error", "RATE_LIMITED", 1),
    // V-05: errors within a stream, before and after text; pages of a proxy; the filter.
    ("error-at0-first1", "done", "stop", 2),
    ("error", "error", "PROVIDER_ERROR", 1),
    ("s502-html-first1", "done", "stop", 2),
    ("filter", "done", "content_filter", 1),
    ("s400", "error", "PROVIDER_ERROR", 1),
    ("s401", "error", "INVALID_API_KEY", 1),
    // V-06: usage as it comes.
    ("nousage", "done", "stop", 1),
    ("twice", "done", "stop", 1),
    ("zero", "done", "stop", 1),
    ("middle", "done", "stop", 1),
    ("late", "done", "stop", 1),
    ("cached", "done", "stop", 1),
    // V-07: much, in one line or in many; what nobody knows.
    ("n1-b1000000", "done", "stop", 1),
    ("tiny-n1000000-i0", "done", "stop", 1),
    ("n2200-i0-b4000", "error", "PROVIDER_ERROR", 1),
    ("noise", "done", "stop", 1),
    ("tools", "done", "tool_calls", 1),
];

/// The same of the other two families, as far as their shapes have it.
const OTHERS: [Case; 19] = [
    ("headless-first1", "done", "stop", 2),
    ("silent-first1", "done", "stop", 2),
    ("onlypings-first1", "done", "stop", 2),
    ("stuck", "error", "PROVIDER_TIMEOUT", 1),
    ("pings", "error", "PROVIDER_TIMEOUT", 1),
    ("fin", "error", "PROVIDER_ERROR", 1),
    ("cut", "error", "PROVIDER_ERROR", 1),
    ("cut-at0-first1", "done", "stop", 2),
    ("slice1", "done", "stop", 1),
    ("slice2-crlf", "done", "stop", 1),
    ("s429-ra1-first1", "done", "stop", 2),
    ("s529-first1", "done", "stop", 2),
    ("error-at0-first1", "done", "stop", 2),
    ("error", "error", "PROVIDER_ERROR", 1),
    ("twice", "done", "stop", 1),
    ("cached", "done", "stop", 1),
    ("n1-b1000000", "done", "stop", 1),
    ("n2000-i0", "done", "stop", 1),
    ("noise", "done", "stop", 1),
];

/// Every case at a provider of its own, all at once.
async fn misbehave(cases: &[(&str, Case)]) {
    // Long enough for a machine that has much else to do: a call that is only slow must not look like a silent one.
    let waits = "provider.head=6000;provider.idle=5000;provider.content=6000;provider.trailer=2000";
    let mut cluster = Cluster::new(&[("POLYPHONY_DURATIONS", waits)], "").await;
    for (index, (kind, (model, ..))) in cases.iter().enumerate() {
        cluster.provider_of(kind, &format!("v{index}"), model);
    }
    let [api, _, _, worker] = cluster.start_all(["api", "relay", "projector", "worker"]).await;
    let (history, sampler) = (History::default(), Sampler::start(cluster.pool()));
    let person = Person::register(&[cluster.url(api)], &history).await;
    let asks = futures::future::join_all(cases.iter().enumerate().map(|(index, (_, (model, ..)))| {
        let person = person.clone();
        async move {
            let model = format!("v{index}/{model}");
            person.ask(person.session(&model).await, &model).await
        }
    }));
    let mut wrong = Vec::new();
    for (ask, (kind, case)) in asks.await.into_iter().zip(cases) {
        let calls = cluster.emulator.calls_for(&ask.marker).len();
        let (event, data) = ask.end.clone().unwrap_or_default();
        let word = data["finish_reason"].as_str().or(data["code"].as_str()).unwrap_or_default().to_owned();
        if (event.as_str(), word.as_str(), calls) != (case.1, case.2, case.3) {
            wrong.push(format!("{kind} {case:?}: {event} {word}, {calls} calls"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let (_, kilobytes) = cluster.role(worker).resources().unwrap();
    assert!(kilobytes < 400_000, "the worker has grown to {kilobytes} kB");
    audit(&mut cluster, &history, sampler).await.expect_green();
}

#[tokio::test]
async fn whatever_a_provider_does_the_answer_ends_once_and_holds_what_came() {
    misbehave(&CASES.map(|case| ("compatible", case))).await;
}

#[tokio::test]
async fn the_other_families_may_misbehave_as_well() {
    let [anthropic, gemini] = ["anthropic", "gemini"].map(|kind| OTHERS.map(|case| (kind, case)));
    misbehave(&[anthropic, gemini].concat()).await;
}
