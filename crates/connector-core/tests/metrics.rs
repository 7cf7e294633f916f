//! The names, labels and values of the metrics the layers write.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Script, call, cx, every_kind, fail, ok, parts, spec};
use connector_core::{Error, ErrorKind, Retry, layer::stack};
use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

/// Values by `name{labels}`.
#[derive(Debug, Default, Clone)]
struct Seen(Arc<Mutex<BTreeMap<String, f64>>>);

struct One(Seen, String);

impl One {
    fn change(&self, change: impl FnOnce(&mut f64)) {
        change(self.0.0.lock().unwrap().entry(self.1.clone()).or_default());
    }
}

impl CounterFn for One {
    fn increment(&self, by: u64) {
        self.change(|value| *value += f64::from(u32::try_from(by).unwrap()));
    }

    fn absolute(&self, to: u64) {
        self.change(|value| *value = f64::from(u32::try_from(to).unwrap()));
    }
}

impl GaugeFn for One {
    fn increment(&self, by: f64) {
        self.change(|value| *value += by);
    }

    fn decrement(&self, by: f64) {
        self.change(|value| *value -= by);
    }

    fn set(&self, to: f64) {
        self.change(|value| *value = to);
    }
}

impl HistogramFn for One {
    fn record(&self, value: f64) {
        self.change(|sum| *sum += value);
    }
}

impl Seen {
    fn one(&self, key: &Key) -> Arc<One> {
        let labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::new(One(self.clone(), format!("{}{{{}}}", key.name(), labels.join(","))))
    }
}

impl Recorder for Seen {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.one(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.one(key))
    }
}

#[test]
fn the_layers_write_the_documented_metrics() {
    let seen = Seen::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    metrics::with_local_recorder(&seen, || {
        runtime.block_on(async {
            let script = Script::quick(spec(every_kind()), |n, call| match (n, &*call.operation) {
                (1, _) => Err(Error::new(ErrorKind::Throttled, "slow down").with_retry(Retry::After(Duration::from_secs(2)))),
                (_, "x_post") => fail(ErrorKind::Transient),
                _ => ok(),
            });
            let stack = stack::inner(script, &parts());
            let (cx, other) = (cx(), cx());
            let hit = async {
                tokio::task::yield_now().await;
                stack.call(&other, call("x_read")).await
            };
            let (first, second) = tokio::join!(stack.call(&cx, call("x_read")), hit);
            assert!(first.is_ok() && second.is_ok());
            for _ in 0..5 {
                stack.call(&cx, call("x_post")).await.unwrap_err();
            }
            stack.call(&cx, call("made_up")).await.unwrap_err();
        });
    });
    let seen = seen.0.lock().unwrap();
    let counts: Vec<_> = seen.iter().filter(|(name, _)| !name.contains("seconds")).map(|(name, value)| format!("{name} {value}")).collect();
    assert_eq!(
        counts,
        [
            "integration_breaker_state{adapter=x,host=x.example} 2",
            "integration_requests_total{adapter=x,operation=x_post,status=unknown} 5",
            "integration_requests_total{adapter=x,operation=x_read,status=ok} 2",
            "integration_retries_total{adapter=x,class=throttled} 1",
        ]
    );
    assert!(seen["integration_latency_seconds{adapter=x,operation=x_read}"] >= 4.0);
    assert!(seen["integration_rate_limit_wait_seconds{}"] >= 2.0);
}
