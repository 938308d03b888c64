#include "server/rpc/api.h"

#include <atomic>
#include <utility>

#include "server/base/clock.h"
#include "server/base/heap.h"
#include "server/rpc/admin_api.h"
#include "server/rpc/artifact_api.h"
#include "server/rpc/auth_api.h"
#include "server/rpc/control_api.h"
#include "server/rpc/explain_api.h"
#include "server/rpc/log_api.h"
#include "server/rpc/orchestrator_api.h"
#include "server/rpc/pipeline_api.h"
#include "server/rpc/plan_api.h"
#include "server/rpc/run_api.h"
#include "server/rpc/secret_api.h"
#include "server/rpc/store_api.h"

namespace orch::rpc {

struct Api::Parts {
  explicit Parts(ApiOptions options)
      : names(options.engine),
        facts(std::move(options.version), std::move(options.data_dir), std::move(options.public_url),
              Clock::Real().Now().wall),
        sign_in(options.token, options.engine->instance()),
        guard(options.engine, &metrics, std::move(options.token), [this] { GiveMemoryBack(); }),
        context{options.engine, &names, &facts, &sign_in},
        runs(&context, &metrics),
        explaining(&context),
        control(&context),
        pipelines(&context),
        plans(&context),
        artifacts(&context),
        logs(&context),
        orchestrators(&context),
        stores(&context),
        secrets(&context),
        auth(&context),
        admin(&context),
        table(&metrics),
        pool(4) {
    runs.Register(&table);
    explaining.Register(&table);
    control.Register(&table);
    pipelines.Register(&table);
    plans.Register(&table);
    artifacts.Register(&table);
    logs.Register(&table);
    orchestrators.Register(&table);
    stores.Register(&table);
    secrets.Register(&table);
    auth.Register(&table);
    admin.Register(&table);
  }

  // The C library keeps what a large request took, ten times its size, until it happens to be on top of the heap. Soon
  // after the answer, when gRPC has let go of the message; once for many, and once more for those answered meanwhile.
  void GiveMemoryBack() {
    if (large_calls.fetch_add(1) == 0) GiveMemoryBackSoon(1);
  }

  void GiveMemoryBackSoon(int64_t answered) {
    pool.PostAfter(1'000'000, [this, answered] {
      GiveHeapBack();
      const int64_t since = large_calls.fetch_sub(answered) - answered;
      if (since > 0) GiveMemoryBackSoon(since);
    });
  }

  std::atomic<int64_t> large_calls{0};  // whose memory is still to be given back
  Metrics metrics;
  RunNames names;
  Facts facts;
  SignIn sign_in;
  Guard guard;
  ApiContext context;
  RunApi runs;
  ExplainApi explaining;
  ControlApi control;
  PipelineApi pipelines;
  PlanApi plans;
  ArtifactApi artifacts;
  LogApi logs;
  OrchestratorApi orchestrators;
  StoreApi stores;
  SecretApi secrets;
  AuthApi auth;
  AdminApi admin;
  MethodTable table;
  WorkerPool pool;
};

Api::Api(ApiOptions options) : parts_(std::make_unique<Parts>(std::move(options))) {}
Api::~Api() = default;

const MethodTable& Api::table() const { return parts_->table; }
Guard& Api::guard() { return parts_->guard; }
Metrics& Api::metrics() { return parts_->metrics; }
SignIn& Api::sign_in() { return parts_->sign_in; }
Facts& Api::facts() { return parts_->facts; }
const ApiContext& Api::context() const { return parts_->context; }
WorkerPool& Api::pool() { return parts_->pool; }

}  // namespace orch::rpc
