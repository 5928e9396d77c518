//! A page of metric families with values taken as they are.
//!
//! The families are built directly, not by the crate's `CounterVec` and its like: those hold running counts, and find
//! a sample by a hash of its label values laid end to end, in which `("web1", "0.0.0.1")` and `("web", "10.0.0.1")`
//! are the same.

use std::fmt::Display;

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

#[derive(Debug, Default)]
pub(super) struct Page {
    families: Vec<MetricFamily>,
}

/// One metric: samples that differ in their labels' values.
#[derive(Debug)]
pub(super) struct Family<'p, const N: usize> {
    page: &'p mut Page,
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    labels: [&'static str; N],
    samples: Vec<Metric>,
}

impl Page {
    pub(super) fn counter<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
    ) -> Family<'_, N> {
        Family { page: self, name, help, kind: MetricType::COUNTER, labels, samples: Vec::new() }
    }

    pub(super) fn gauge<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
    ) -> Family<'_, N> {
        Family { page: self, name, help, kind: MetricType::GAUGE, labels, samples: Vec::new() }
    }

    pub(super) fn encode(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.families)
    }
}

impl<const N: usize> Family<'_, N> {
    pub(super) fn add(&mut self, values: [&dyn Display; N], value: f64) {
        let labels = self.labels.iter().zip(values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value(value.to_string());
            pair
        });
        let mut sample = Metric::from_label(labels.collect());
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            sample.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            sample.set_gauge(gauge);
        }
        self.samples.push(sample);
    }
}

/// A family goes onto its page when it is done; one without samples is left out.
impl<const N: usize> Drop for Family<'_, N> {
    fn drop(&mut self) {
        if self.samples.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.kind);
        family.set_metric(std::mem::take(&mut self.samples));
        self.page.families.push(family);
    }
}
