//! The web page of a registry of ferry's own, in a browser: light and dark, with the keyboard, on a phone.

use ferry_tests::browser::Browser;
use ferry_tests::own_registry::OwnRegistry;
use serde_json::json;

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("registry_page::files_and_answers", files_and_answers),
    ("registry_page::looked_through_by_keyboard", looked_through_by_keyboard),
    ("registry_page::light_dark_and_phone", light_dark_and_phone),
];

fn filled() -> OwnRegistry {
    let registry = OwnRegistry::start(&[]);
    let layer = registry.push_blob("team/app", &vec![1; 250_000]);
    for tag in ["v1", "v2"] {
        registry.push_image("team/app", tag, &[&layer], &format!(r#","annotations":{{"is":"{tag}"}}"#));
    }
    registry.push_image("other", "b", &[], "");
    registry
}

fn files_and_answers() {
    let registry = filled();
    for (path, kind) in [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        let answer = registry.get(path);
        answer.is(200);
        assert!(answer.header("content-type").starts_with(kind), "{answer:?}");
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{answer:?}");
    }
    let list = registry.get("/ferry/v1/repositories?q=app").json();
    assert_eq!(list["repositories"][0]["name"], "team/app");
    assert_eq!((&list["repositories"][0]["tags"], &list["more"]), (&json!(2), &json!(false)));
    let first = registry.get("/ferry/v1/repositories?n=1").json();
    assert_eq!((&first["repositories"][0]["name"], &first["more"]), (&json!("other"), &json!(true)));
    let target = "/ferry/v1/delete?repository=team/app&reference=v1";
    let elsewhere = [("Origin", "http://elsewhere.example")];
    registry.send("POST", target, &elsewhere, b"").refuses(403, "DENIED");
    let own = format!("http://{}", registry.address);
    registry.send("POST", target, &[("Origin", &own)], b"").is(202);
    registry.send("POST", target, &[], b"").refuses(404, "MANIFEST_UNKNOWN");
}

fn looked_through_by_keyboard() {
    let registry = filled();
    let Some(mut browser) = Browser::start() else { return };
    browser.open(&format!("http://{}/", registry.address));
    browser.wait_for("document.querySelectorAll('#list a').length === 2");
    browser.press("/", 191);
    browser.wait_for("document.activeElement.id === 'search'");
    for letter in ["a", "p", "p"] {
        browser.press(letter, u32::from(letter.as_bytes()[0]) - 32);
    }
    browser.wait_for("document.querySelectorAll('#list a').length === 1");
    browser.press("ArrowDown", 40);
    browser.wait_for("document.activeElement.matches('#list a')");
    browser.press("Enter", 13);
    browser.wait_for(
        "[...document.querySelectorAll('#detail tbody a')].map(a => a.textContent).join() === 'v1,v2'",
    );
    browser.evaluate("document.querySelector('#detail tbody a').focus()");
    browser.press("Enter", 13);
    browser.wait_for("document.querySelector('#detail h2')?.textContent === 'team/app:v1'");
    let text = browser.evaluate("document.getElementById('detail').textContent");
    let text = text.as_str().expect("a text");
    let pull = format!("docker pull {}/team/app:v1", registry.address);
    assert!(text.contains(&pull) && text.contains("Layers (1)"), "{text}");
    // Asked first, and only then deleted.
    browser.evaluate("document.querySelector('#detail button.danger').focus()");
    browser.press("Enter", 13);
    browser.wait_for("document.getElementById('confirm').open");
    browser.press("Escape", 27);
    browser.wait_for("!document.getElementById('confirm').open");
    registry.get("/v2/team/app/manifests/v1").is(200);
    browser.evaluate("document.querySelector('#detail button.danger').focus()");
    browser.press("Enter", 13);
    browser.wait_for("document.getElementById('confirm').open");
    browser.evaluate("document.querySelector('#confirm button.danger').focus()");
    browser.press("Enter", 13);
    browser.wait_for(
        "[...document.querySelectorAll('#detail tbody a')].map(a => a.textContent).join() === 'v2'",
    );
    registry.get("/v2/team/app/manifests/v1").refuses(404, "MANIFEST_UNKNOWN");
    browser.press("Escape", 27);
    browser.wait_for("location.hash === '#/'");
}

fn light_dark_and_phone() {
    let registry = filled();
    let Some(mut browser) = Browser::start() else { return };
    let ground = "getComputedStyle(document.body).backgroundColor";
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.call("Emulation.setEmulatedMedia", features);
        browser.open(&format!("http://{}/#/team/app", registry.address));
        browser.wait_for("document.querySelectorAll('#detail tbody a').length === 2");
        grounds.push(browser.evaluate(ground));
    }
    assert_ne!(grounds[0], grounds[1], "light and dark");
    let phone = json!({ "width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true });
    browser.call("Emulation.setDeviceMetricsOverride", phone);
    browser.wait_for("getComputedStyle(document.getElementById('list')).display === 'none'");
    browser.wait_for("document.documentElement.scrollWidth <= 360");
    browser.evaluate("document.querySelector('.back').click()");
    browser.wait_for("getComputedStyle(document.getElementById('list')).display !== 'none'");
    browser.wait_for("document.documentElement.scrollWidth <= 360");
}
