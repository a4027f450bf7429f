//! Metrics of memory: what each class holds, and what the process has.

use crate::broker::Broker;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
    registry::{Registry, Unit},
};
use std::{fmt, sync::Arc};
use thalweg_runtime::Budget;

/// Registers the metrics of `broker`'s memory.
pub fn register(registry: &mut Registry, broker: &Arc<Broker>) {
    let budgets = &broker.budgets;
    let classes =
        [&budgets.produce, &budgets.requests, &budgets.receiving, &budgets.responses, &budgets.block_reads];
    registry.register_collector(Box::new(Memory { budgets: classes.map(Budget::clone).into() }));
}

struct Memory {
    budgets: Vec<Budget>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.budgets.iter().map(Budget::name)).finish()
    }
}

impl Collector for Memory {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.encode_classes(
            &mut encoder,
            "thalweg_memory_used",
            "Bytes charged, by class of memory",
            Budget::used,
        )?;
        self.encode_classes(
            &mut encoder,
            "thalweg_memory_limit",
            "Most bytes, by class of memory",
            Budget::capacity,
        )?;
        let allocated =
            tikv_jemalloc_ctl::epoch::advance().and_then(|_| tikv_jemalloc_ctl::stats::resident::read());
        if let Ok(resident) = allocated {
            let gauge = ConstGauge::new(i64::try_from(resident).unwrap_or(i64::MAX));
            let help = "Bytes that the allocator holds of the system";
            let metric = encoder.encode_descriptor(
                "thalweg_memory_resident",
                help,
                Some(&Unit::Bytes),
                gauge.metric_type(),
            )?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

impl Memory {
    fn encode_classes(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: impl Fn(&Budget) -> usize,
    ) -> fmt::Result {
        let kind = ConstGauge::new(0i64).metric_type();
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), kind)?;
        for budget in &self.budgets {
            let gauge = ConstGauge::new(i64::try_from(value(budget)).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&[("class", budget.name())])?)?;
        }
        Ok(())
    }
}
