#include "server/engine/run_context.h"

#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "server/base/status.h"

namespace orch {

absl::StatusOr<std::shared_ptr<RunContext>> MakeRunContext(RunHeader header, std::shared_ptr<const Graph> graph,
                                                           int generation) {
  auto context = std::make_shared<RunContext>();
  context->generation = generation;
  const nlohmann::json parameters = nlohmann::json::parse(
      header.parameters_json.empty() ? "{}" : header.parameters_json, nullptr, /*allow_exceptions=*/false);
  if (!parameters.is_object()) {
    return Error(absl::StatusCode::kInternal, "PARAMETERS_BROKEN", "the stored parameters are no JSON object");
  }
  for (const auto& [name, value] : parameters.items()) context->parameters.emplace(name, value.dump());
  char host[256] = {};
  gethostname(host, sizeof(host) - 1);
  struct stat st {};
  if (header.submitter_host == host && !header.source_dir.empty() && stat(header.source_dir.c_str(), &st) == 0 &&
      S_ISDIR(st.st_mode)) {
    context->source_dir = header.source_dir;
  }
  context->header = std::move(header);
  context->graph = std::move(graph);
  return context;
}

}  // namespace orch
