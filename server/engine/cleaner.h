// Removes what deleted runs leave behind: logs, steps, events, artifacts that nothing pins, and bytes that no artifact
// has any more; and answers to requests that were kept long enough. In slices, each a commit of its own between the
// others; a crash anywhere only means that it goes on.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "backends/api/backend.h"
#include "server/base/mutex.h"
#include "server/engine/artifact_stores.h"
#include "server/engine/blob_store.h"
#include "server/engine/mailbox.h"
#include "server/store/queries.h"

namespace orch {

class Cleaner {
 public:
  using Backends = std::function<std::vector<std::shared_ptr<Backend>>()>;
  // All outlive it.
  Cleaner(store::Queries* queries, BlobStore* blobs, ArtifactStores* stores, Mailbox* mailbox, Backends backends)
      : queries_(queries), blobs_(blobs), stores_(stores), mailbox_(mailbox), backends_(std::move(backends)) {}
  ~Cleaner() { Stop(); }

  // Goes on with what an earlier life left. Once.
  void Start();
  // Something was deleted. Any thread.
  void Wake();
  // Stops between two slices.
  void Stop();

 private:
  void Run();
  absl::Status CleanAll();
  absl::Status CleanRun(const DeletedRunRow& run);
  // Sets `more` if some are in use just now.
  absl::Status RemoveBlobs(bool* more);
  absl::Status ForgetRequests();
  absl::Status Commit(Removals removals);
  bool stopping();

  store::Queries* const queries_;
  BlobStore* const blobs_;
  ArtifactStores* const stores_;
  Mailbox* const mailbox_;
  const Backends backends_;
  Mutex mutex_;
  CondVar changed_;
  bool woken_ ABSL_GUARDED_BY(mutex_) = true;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace orch
