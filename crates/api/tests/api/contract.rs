//! What holds on every route: the envelope, the codes, the headers. The routes are those of the OpenAPI document, so
//! that a new one can't be forgotten here.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    node::Deployment,
    person::{Answer, Person, read},
};

struct Route {
    method: Method,
    path: String,
    operation: Value,
}

impl Route {
    fn is_public(&self) -> bool {
        self.operation.get("security").is_some()
    }

    fn takes_body(&self) -> bool {
        self.operation.get("requestBody").is_some()
    }

    fn place(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// Every operation of the document, with ids that nobody has. Those under `/v1` refuse in the words of other providers.
async fn routes(person: &Person) -> Vec<Route> {
    let document = person.get("/api/openapi.json").await.body;
    let mut routes = vec![];
    for (path, item) in document["paths"].as_object().unwrap().iter().filter(|(path, _)| !path.starts_with("/v1/")) {
        for (method, operation) in item.as_object().unwrap() {
            let mut path = path.clone();
            while let (Some(begin), Some(end)) = (path.find('{'), path.find('}')) {
                path.replace_range(begin..=end, &Uuid::now_v7().to_string());
            }
            let method = method.to_uppercase().parse().unwrap();
            routes.push(Route { method, path, operation: operation.clone() });
        }
    }
    assert!(routes.len() >= 25, "only {} routes", routes.len());
    routes
}

fn assert_headers(answer: &Answer, place: &str) {
    let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert!(!header("x-request-id").is_empty(), "{place}");
    assert_eq!(header("x-content-type-options"), "nosniff", "{place}");
    assert_eq!(header("referrer-policy"), "no-referrer", "{place}");
    assert_eq!(header("cache-control"), "no-store", "{place}");
    assert!(header("content-security-policy").contains("frame-ancestors 'none'"), "{place}");
    assert!(header("server").is_empty(), "{place}");
}

#[tokio::test]
async fn every_route_refuses_what_is_wrong_with_the_same_envelope() {
    let deployment = Deployment::new().await;
    let node = deployment.node_set(|config| config.limits.relaxed = true).await;
    let person = Person::register(&node.url).await;
    let stranger = Person::stranger(&node.url);
    let before = deployment.events().await;
    for route in routes(&person).await {
        let place = route.place();
        let wrong = read(person.request(Method::PATCH, &route.path)).await;
        assert_eq!(wrong.refusal(), (405, "METHOD_NOT_ALLOWED"), "{place}");
        assert!(wrong.headers["allow"].to_str().unwrap().contains(route.method.as_str()), "{place}");
        assert_headers(&wrong, &place);
        if !route.is_public() {
            for forged in [
                stranger.request(route.method.clone(), &route.path),
                stranger.with_token("x").request(route.method.clone(), &route.path),
                stranger.with_token("pat_x").request(route.method.clone(), &route.path),
                stranger.with_token("'; DROP TABLE events; --").request(route.method.clone(), &route.path),
                stranger.with_token("x".repeat(8_000)).request(route.method.clone(), &route.path),
                stranger.request(route.method.clone(), &route.path).basic_auth("a", Some("b")),
                stranger.request(route.method.clone(), &route.path).header("authorization", "Bearer"),
                stranger.request(route.method.clone(), &format!("{}?token=x", route.path)),
            ] {
                let answer = read(forged).await;
                assert_eq!(answer.refusal(), (401, "UNAUTHORIZED"), "{place}");
                assert_headers(&answer, &place);
            }
        }
        if route.takes_body() {
            refuses_bad_bodies(&person, &route).await;
        }
        let unknown = if route.path.contains("openapi") { None } else { Some(format!("{}?nonsense=1", route.path)) };
        if let Some(path) = unknown.filter(|_| !route.takes_body() && takes_query(&route)) {
            let answer = read(person.request(route.method.clone(), &path)).await;
            assert_eq!(
                (answer.refusal(), answer.field().as_str()),
                ((400, "VALIDATION_FAILED"), "nonsense"),
                "{place}"
            );
        }
    }
    assert_eq!(deployment.events().await, before, "nothing of it was appended");
}

fn takes_query(route: &Route) -> bool {
    let parameters = route.operation["parameters"].as_array();
    parameters.is_some_and(|parameters| parameters.iter().any(|parameter| parameter["in"] == "query"))
}

async fn refuses_bad_bodies(person: &Person, route: &Route) {
    let place = route.place();
    let send = async |kind: Option<&str>, body: Vec<u8>| {
        let request = person.request(route.method.clone(), &route.path).body(body);
        let request = if let Some(kind) = kind { request.header("content-type", kind) } else { request };
        read(request).await
    };
    let deep = "[".repeat(10_000);
    let bodies: &[&[u8]] = &[
        b"",
        b"{",
        b"[]",
        b"null1",
        b"7",
        b"\"text\"",
        b"{} {}",
        b"{\"a\": 1e400}",
        b"{\"a\": \"\\ud800\"}",
        b"{\"a\": \"\xff\"}",
        b"{\"title\": \"a\\u0000\", \"email\": \"a\\u0000\", \"content\": \"a\\u0000\"}",
        deep.as_bytes(),
    ];
    // Well-formed, but nothing that the route knows; the settings keep what clients add to them.
    let unknown: &[&[u8]] = &[
        b"{\"nonsense\": 1}",
        b"{\"name\": \"a\", \"name\": \"b\"}",
        b"{\"role\": \"admin\"}",
        b"{\"user_id\": \"x\", \"is_admin\": true, \"cost_usd\": \"0\", \"created_at\": \"x\"}",
    ];
    let unknown = if place.contains("/users/me/settings") { &[] } else { unknown };
    for body in bodies.iter().chain(unknown) {
        let answer = send(Some("application/json; charset=utf-8"), body.to_vec()).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_eq!(answer.refusal(), (400, "VALIDATION_FAILED"), "{place} {shown}");
        assert!(!answer.field().is_empty(), "{place} {shown}");
        assert_headers(&answer, &place);
    }
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("multipart/form-data")] {
        let answer = send(kind, b"{}".to_vec()).await;
        assert_eq!(answer.refusal(), (415, "UNSUPPORTED_MEDIA_TYPE"), "{place} {kind:?}");
    }
    // Just over the limit, so that the answer comes back whole.
    let answer = send(Some("application/json"), vec![b' '; 2_097_153]).await;
    assert_eq!(answer.refusal(), (413, "PAYLOAD_TOO_LARGE"), "{place}");
}

#[tokio::test]
async fn paths_that_lead_nowhere_lead_nowhere_politely() {
    let deployment = Deployment::new().await;
    let node = deployment.node().await;
    let person = Person::register(&node.url).await;
    for path in [
        "/nowhere",
        "/api/nowhere",
        "/sessions/xyz",
        "/sessions/%00",
        "/sessions/%ff",
        "/sessions/..%2f..%2fetc%2fpasswd",
        "/models/none",
        "/models/%ff",
        "/models/%00",
        "/messages/7",
        "/sessions/01990000-0000-7000-8000-000000000000",
    ] {
        let answer = person.get(path).await;
        assert_eq!(answer.refusal(), (404, "NOT_FOUND"), "{path}");
        assert_headers(&answer, path);
    }
    for (path, field) in [
        ("/sessions?limit=0", "limit"),
        ("/sessions?limit=101", "limit"),
        ("/sessions?limit=-1", "limit"),
        ("/sessions?limit=1000000000", "limit"),
        ("/sessions?limit=abc", "limit"),
        ("/sessions?page=0", "page"),
        ("/sessions?page=1.5", "page"),
        ("/sessions?page=1&page=2", "page"),
        ("/sessions?archived=maybe", "archived"),
        ("/sessions?page=%00", "page"),
        ("/models?colour=blue", "colour"),
    ] {
        let answer = person.get(path).await;
        assert_eq!((answer.refusal(), answer.field().as_str()), ((400, "VALIDATION_FAILED"), field), "{path}");
    }
    assert_eq!(person.get("/sessions?page=4294967295&limit=100").await.status, 200);
}

#[tokio::test]
async fn ids_languages_and_pages() {
    let deployment = Deployment::new().await;
    let node = deployment.node_set(|config| config.http.public_url = "https://chat.example".parse().unwrap()).await;
    let stranger = Person::stranger(&node.url);
    let me = |name: &'static str, value: String| stranger.request(Method::GET, "/users/me").header(name, value);
    let answer = read(me("x-request-id", "ticket-7".into())).await;
    assert_eq!(answer.headers["x-request-id"], "ticket-7");
    assert!(answer.headers.contains_key("strict-transport-security"));
    for bad in ["x".repeat(129), "a b".to_owned()] {
        let answer = read(me("x-request-id", bad.clone())).await;
        assert_ne!(answer.headers["x-request-id"].to_str().unwrap(), bad);
    }
    let chinese = read(me("accept-language", "zh-CN,zh;q=0.9,en;q=0.8".into())).await;
    assert_eq!(
        (chinese.refusal(), &chinese.body["error"]["message"]),
        ((401, "UNAUTHORIZED"), &json!("需要有效的访问令牌"))
    );
    let english = read(me("accept-language", "fr".into())).await;
    assert!(english.body["error"]["message"].as_str().unwrap().is_ascii());

    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let get = async |path: &str| http.get(format!("{}{path}", node.url)).send().await.unwrap();
    assert_eq!(get("/").await.headers()["location"], "/api/docs");
    assert_eq!(get("/healthz").await.status(), 200);
    let page = get("/api/docs").await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let page = page.text().await.unwrap();
    assert!(
        !page.contains("http://") && !page.contains("https://") && !page.contains("style="),
        "nothing from elsewhere"
    );
    for file in ["/api/docs.js", "/api/docs.css"] {
        assert!(page.contains(file) && get(file).await.status() == 200);
    }
    let ready: Value = serde_json::from_slice(&get("/readyz").await.bytes().await.unwrap()).unwrap();
    assert_eq!(ready["data"], json!({"postgres": "ok", "nats": "ok", "clickhouse": "unreachable"}));
}
