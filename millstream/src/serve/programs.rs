//! The jobs that can be submitted over REST, and the checks before one is: it must be in this program, and a client that
//! says which build it is must be the same.

use std::sync::Arc;

use millstream_runtime::ids::JobId;
use millstream_service::api::{Program, RunRequest};
use millstream_service::{Answer, ApiError};

use crate::jobs::Job;

/// Runs jobs of this program on a cluster.
pub(crate) trait Submit: Send + Sync {
    /// Answers with the id once the cluster goes on with the job whatever becomes of this process.
    fn submit(&self, name: String, request: RunRequest) -> Answer<'_, JobId>;
}

/// How jobs come in.
pub(crate) struct Entrance {
    /// Digest of the executable of this process, as hex digits.
    pub artefact: String,
    /// Who runs them.
    pub submitter: Arc<dyn Submit>,
}

/// The jobs of this program.
pub(crate) struct Programs {
    programs: Vec<Program>,
    /// None in a process that runs one job.
    entrance: Option<Entrance>,
}

impl Programs {
    pub fn new(jobs: &[Job], since_ms: i64, entrance: Option<Entrance>) -> Self {
        let program = |job: &Job| Program {
            name: job.name.to_string(),
            about: job.about.to_string(),
            available_since_ms: since_ms,
        };
        Self { programs: jobs.iter().map(program).collect(), entrance }
    }

    pub fn all(&self) -> Vec<Program> {
        self.programs.clone()
    }

    pub async fn run(&self, name: &str, request: RunRequest) -> Result<JobId, ApiError> {
        let Some(Entrance { artefact, submitter }) = &self.entrance else {
            return Err(ApiError::Conflict(format!(
                "this process runs one job, so {name} cannot be submitted to it: submit it to a cluster"
            )));
        };
        if !self.programs.iter().any(|program| program.name == name) {
            let names: Vec<&str> = self.programs.iter().map(|program| program.name.as_str()).collect();
            return Err(ApiError::BadRequest(format!(
                "there is no job '{name}' in the program of this cluster; it has: {}",
                names.join(", ")
            )));
        }
        if let Some(other) = request.artefact.as_ref().filter(|other| !other.eq_ignore_ascii_case(artefact)) {
            return Err(ApiError::BadRequest(format!(
                "the client is another build than the cluster, which would run other functions than those submitted: its \
                 executable has the digest {other}, that of the leading node {artefact}; submit with the program that the \
                 cluster runs"
            )));
        }
        submitter.submit(name.to_string(), request).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Accepts(Mutex<Vec<(String, RunRequest)>>);

    impl Submit for Accepts {
        fn submit(&self, name: String, request: RunRequest) -> Answer<'_, JobId> {
            self.0.lock().unwrap().push((name, request));
            Box::pin(std::future::ready(Ok(JobId([7; 16]))))
        }
    }

    fn programs(entrance: Option<Entrance>) -> Programs {
        Programs::new(&crate::jobs::jobs(), 5, entrance)
    }

    fn of_build(artefact: Option<&str>) -> RunRequest {
        RunRequest { artefact: artefact.map(str::to_string), ..RunRequest::default() }
    }

    #[tokio::test]
    async fn a_job_goes_to_the_submitter_if_the_build_is_the_same_or_not_told() {
        let accepts = Arc::new(Accepts::default());
        let programs = programs(Some(Entrance { artefact: "ab".to_string(), submitter: accepts.clone() }));
        assert_eq!(programs.all()[0].name, "fraud-detection");
        for artefact in [None, Some("ab"), Some("AB")] {
            assert_eq!(programs.run("fraud-detection", of_build(artefact)).await, Ok(JobId([7; 16])));
        }
        let Err(ApiError::BadRequest(message)) = programs.run("fraud-detection", of_build(Some("cd"))).await else {
            panic!("another build");
        };
        assert!(message.contains("digest cd") && message.contains("node ab"), "{message}");
        let Err(ApiError::BadRequest(message)) = programs.run("unknown", of_build(None)).await else {
            panic!("no such job");
        };
        assert!(message.contains("'unknown'") && message.contains("fraud-detection"), "{message}");
        assert_eq!(accepts.0.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_process_that_runs_one_job_takes_no_other() {
        let refused = programs(None).run("fraud-detection", RunRequest::default()).await;
        assert!(matches!(refused, Err(ApiError::Conflict(message)) if message.contains("runs one job")));
    }
}
