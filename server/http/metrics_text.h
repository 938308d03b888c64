// `/metrics` in Prometheus' text format.
#pragma once

#include <string>

#include "server/engine/engine.h"
#include "server/rpc/metrics.h"

namespace orch::http {

std::string MetricsText(Engine& engine, const rpc::Metrics& metrics);

}  // namespace orch::http
