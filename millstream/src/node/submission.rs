//! From a request over REST to a job that the cluster goes on with: what is recorded of it is resolved here, once.

use std::sync::Arc;

use millstream_actors::dispatcher::{DispatcherHandle, Submissions};
use millstream_actors::world::blocking;
use millstream_runtime::ids::JobId;
use millstream_runtime::ports::Blocking;
use millstream_service::api::RunRequest;
use millstream_service::{Answer, ApiError};

use super::programs::Compiled;
use crate::error::Error;
use crate::serve::jobs::refusal;
use crate::serve::programs::Submit;

/// Submits jobs of this executable to the dispatcher.
pub(super) struct Submitter {
    pub programs: Arc<Compiled>,
    pub dispatcher: DispatcherHandle,
    pub blocking: Arc<dyn Blocking>,
}

impl Submit for Submitter {
    fn submit(&self, name: String, request: RunRequest) -> Answer<'_, JobId> {
        Box::pin(async move {
            let programs = Arc::clone(&self.programs);
            // Recording a job runs its own code, which may look at its input.
            let submission = blocking(&*self.blocking, move || {
                let record = programs.record(&name, &request).map_err(refused)?;
                programs.submission(&record).map_err(refusal)
            });
            let submission = submission.await.map_err(refusal)??;
            let handle = self.dispatcher.submit(submission).await.map_err(refusal)?;
            Ok(handle.id())
        })
    }
}

fn refused(error: Error) -> ApiError {
    match error {
        Error::Port(error) => refusal(error),
        error @ (Error::Usage(_) | Error::Plan(_)) => ApiError::BadRequest(error.to_string()),
    }
}
