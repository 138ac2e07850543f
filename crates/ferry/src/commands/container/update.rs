//! `update`.

use ferry_api::Call;
use ferry_api::container::{PortMap, UpdateRequest, UpdateResponse};

use super::{missing, options, path};
use crate::commands::each;
use crate::failure::{Failure, Outcome};
use crate::flags::{Bytes, FlagSet as _, NanoCpus};
use crate::output;
use crate::session::Session;

crate::flags! {
    /// Flags of `update`.
    pub struct UpdateFlags {
        blkio_weight: Option<i64> = '-' "blkio-weight" <uint16> "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)";
        cpu_period: Option<i64> = '-' "cpu-period" <int> "Limit CPU CFS (Completely Fair Scheduler) period";
        cpu_quota: Option<i64> = '-' "cpu-quota" <int> "Limit CPU CFS (Completely Fair Scheduler) quota";
        cpu_rt_period: Option<i64> = '-' "cpu-rt-period" <int> "Limit the CPU real-time period in microseconds";
        cpu_rt_runtime: Option<i64> = '-' "cpu-rt-runtime" <int> "Limit the CPU real-time runtime in microseconds";
        cpu_shares: Option<i64> = 'c' "cpu-shares" <int> "CPU shares (relative weight)";
        cpus: NanoCpus = '-' "cpus" <decimal> "Number of CPUs";
        cpuset_cpus: String = '-' "cpuset-cpus" <string> "CPUs in which to allow execution (0-3, 0,1)";
        cpuset_mems: String = '-' "cpuset-mems" <string> "MEMs in which to allow execution (0-3, 0,1)";
        kernel_memory: Option<Bytes> = '-' "kernel-memory" <bytes> "Kernel memory limit (no longer has an effect)";
        memory: Option<Bytes> = 'm' "memory" <bytes> "Memory limit";
        memory_reservation: Option<Bytes> = '-' "memory-reservation" <bytes> "Memory soft limit";
        memory_swap: Option<Bytes> = '-' "memory-swap" <bytes> "Swap limit equal to memory plus swap: -1 to enable unlimited swap";
        pids_limit: Option<i64> = '-' "pids-limit" <int> "Tune container pids limit (set -1 for unlimited)";
        publish: Vec<String> = 'p' "publish" <list> "Publish a port of the container to the host, also while it runs";
        publish_rm: Vec<String> = '-' "publish-rm" <list> "Take published ports back: a port of the container (80, 53/udp) or a whole publish specification";
        restart: String = '-' "restart" <string> "Restart policy to apply when a container exits";
    }
}

/// Runs `update`.
pub async fn update(session: &Session, flags: UpdateFlags, names: Vec<String>) -> Outcome {
    let request = &request(&flags)?;
    if *request == UpdateRequest::default() {
        let known: Vec<String> = UpdateFlags::specs().iter().map(|spec| format!("--{}", spec.long)).collect();
        return Err(Failure::new("you must provide one or more flags when using this command")
            .hint(format!("one of {}", known.join(" "))));
    }
    let client = session.engine().await?;
    each(&names, async move |name| {
        let call = Call::post(path(name, "/update")).json(request);
        let done = client.call(call).await.map_err(|error| missing(error, name))?;
        let answer: UpdateResponse = done.json().await?;
        for warning in answer.warnings.iter().flatten() {
            output::note(warning);
        }
        Ok(())
    })
    .await
}

fn request(flags: &UpdateFlags) -> Result<UpdateRequest, Failure> {
    let bytes = |value: Option<Bytes>| value.map_or(0, |bytes| bytes.0);
    let mut request = UpdateRequest {
        cpu_period: flags.cpu_period.unwrap_or(0),
        cpu_quota: flags.cpu_quota.unwrap_or(0),
        cpu_realtime_period: flags.cpu_rt_period.unwrap_or(0),
        cpu_realtime_runtime: flags.cpu_rt_runtime.unwrap_or(0),
        cpu_shares: flags.cpu_shares.unwrap_or(0),
        nano_cpus: flags.cpus.0,
        cpuset_cpus: flags.cpuset_cpus.clone(),
        cpuset_mems: flags.cpuset_mems.clone(),
        memory: bytes(flags.memory),
        memory_reservation: bytes(flags.memory_reservation),
        memory_swap: bytes(flags.memory_swap),
        pids_limit: flags.pids_limit,
        ..Default::default()
    };
    if let Some(weight) = flags.blkio_weight {
        request.blkio_weight =
            u16::try_from(weight).map_err(|_| Failure::new(format!("invalid blkio-weight: {weight}")))?;
    }
    request.publish = port_map(&flags.publish)?;
    request.unpublish = port_map(&flags.publish_rm)?;
    if !flags.restart.is_empty() {
        request.restart_policy = options::restart_policy(&flags.restart).map_err(Failure::new)?;
    }
    Ok(request)
}

fn port_map(specifications: &[String]) -> Result<Option<PortMap>, Failure> {
    let ports = options::port::ports(specifications, &[]).map_err(Failure::new)?;
    Ok((!ports.bindings.is_empty()).then_some(ports.bindings))
}
