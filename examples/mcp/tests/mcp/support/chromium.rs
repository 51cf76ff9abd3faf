//! A real browser: Debian's Chromium, controlled by its WebDriver.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::PATIENCE;
use url::{ParseError, Url};

/// A browser with its own profile. It is killed when dropped.
pub(crate) struct Chromium {
    pub(crate) page: Client,
    profile: TempDir,
    _driver: Driver,
}

impl Chromium {
    /// Starts a browser that resolves `*.test` to this computer and accepts any certificate.
    pub(crate) async fn start() -> Self {
        let driver = tokio::task::spawn_blocking(Driver::start).await.unwrap();
        let profile = tempfile::tempdir().unwrap();
        let mut args: Vec<_> = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--ignore-certificate-errors",
            "--host-resolver-rules=MAP *.test 127.0.0.1",
        ]
        .map(str::to_owned)
        .into();
        args.push(format!("--user-data-dir={}", profile.path().display()));
        let Value::Object(capabilities) = json!({ "goog:chromeOptions": { "args": args } }) else {
            unreachable!()
        };
        let end = Instant::now() + PATIENCE;
        let page = loop {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            match builder
                .capabilities(capabilities.clone())
                .connect(&driver.url)
                .await
            {
                Ok(page) => break page,
                Err(error) => assert!(Instant::now() < end, "Chromium did not start: {error}"),
            }
        };
        Self {
            page,
            profile,
            _driver: driver,
        }
    }

    pub(crate) async fn open(&self, url: &str) {
        self.page.goto(url).await.unwrap();
    }

    /// Waits until the URL begins with `begin` and the page is loaded. Returns the URL.
    pub(crate) async fn reach(&self, begin: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let url = self.page.current_url().await.map(String::from);
            if let Ok(url) = &url
                && url.starts_with(begin)
            {
                let state = self
                    .page
                    .execute("return document.readyState", Vec::new())
                    .await;
                if state.is_ok_and(|state| state == "complete") {
                    return url.clone();
                }
            }
            assert!(
                Instant::now() < end,
                "{begin} was not reached: {url:?} {:?}",
                self.text().await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn find(&self, css: &str) -> Option<Element> {
        self.page.find(Locator::Css(css)).await.ok()
    }

    /// Waits for an element and clicks it.
    pub(crate) async fn click(&self, css: &str) {
        let element = self
            .page
            .wait()
            .at_most(PATIENCE)
            .for_element(Locator::Css(css))
            .await;
        let element = element.unwrap_or_else(|error| panic!("no {css}: {error}"));
        element
            .click()
            .await
            .unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// Returns the visible text of the page.
    pub(crate) async fn text(&self) -> Result<String, CmdError> {
        self.page.find(Locator::Css("body")).await?.text().await
    }

    /// Sends a command of the Chrome DevTools Protocol.
    pub(crate) async fn devtools(&self, command: &'static str, params: Value) {
        let command = DevTools { command, params };
        self.page.issue_cmd(command).await.unwrap();
    }

    /// Emulates a screen of this size.
    pub(crate) async fn screen(&self, width: u32, height: u32) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)
            .await;
    }

    pub(crate) async fn scheme(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Asserts that nothing is cut off at the sides.
    pub(crate) async fn assert_fits(&self, width: u32) {
        self.screen(width, 844).await;
        let wide = self.value("document.documentElement.scrollWidth").await;
        let wide = wide.as_u64().unwrap();
        assert!(wide <= u64::from(width), "{wide} of {width} pixels");
    }

    /// Asserts that axe-core finds no violation on the page: structure, names of controls, contrast
    /// and the size of targets (WCAG 2.2 AA).
    pub(crate) async fn assert_accessible(&self) {
        const AXE: &str = include_str!("axe-core/axe.min.js");
        const RUN: &str = "return axe.run({ rules: { 'target-size': { enabled: true } } }).then(\
            ({ violations }) => violations.map(({ id, nodes }) => [id, nodes[0].html]))";
        let script = format!("{AXE};{RUN}");
        let found = self.page.execute(&script, Vec::new()).await.unwrap();
        assert_eq!(found, json!([]), "{:?}", self.text().await);
    }

    /// Waits until the visible text of the page has these words.
    pub(crate) async fn shows(&self, words: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            // The text cannot be read while a page is replaced.
            let text = self.text().await;
            if text.as_ref().is_ok_and(|text| text.contains(words)) {
                return;
            }
            assert!(Instant::now() < end, "{words:?} is missing: {text:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Evaluates a JavaScript expression in the page.
    pub(crate) async fn value(&self, script: &str) -> Value {
        self.page
            .execute(&format!("return {script}"), Vec::new())
            .await
            .unwrap()
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Killing the driver does not end the browser. The process ID of the browser is in the lock
        // of its profile.
        let lock =
            std::fs::read_link(self.profile.path().join("SingletonLock")).unwrap_or_default();
        let id = lock
            .to_str()
            .and_then(|lock| lock.rsplit_once('-')?.1.parse::<u32>().ok());
        if let Some(id) = id {
            let _ = Command::new("sh")
                .args(["-c", "kill -KILL \"$0\"", &id.to_string()])
                .status();
        }
    }
}

#[derive(Debug)]
struct DevTools {
    command: &'static str,
    params: Value,
}

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        let session = session.unwrap_or_default();
        base.join(&format!("session/{session}/goog/cdp/execute"))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        let body = json!({ "cmd": self.command, "params": self.params });
        (Method::POST, Some(body.to_string()))
    }
}

/// The WebDriver, on a free port. It is killed when dropped.
struct Driver {
    child: Child,
    url: String,
}

impl Driver {
    fn start() -> Self {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(driver) = Self::try_start() {
                return driver;
            }
            assert!(Instant::now() < end, "chromedriver did not start");
        }
    }

    /// Starts the driver once. It takes a free port of IPv4 and exits if that port is in use on
    /// IPv6.
    fn try_start() -> Option<Self> {
        let command = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = command.expect("chromedriver is missing: `tests/run` installs it");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut driver = Self {
            child,
            url: String::new(),
        };
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        })?;
        driver.url = format!("http://127.0.0.1:{port}");
        // Drain the output, so that the driver never blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Some(driver)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
