// A flavor that somebody else brings: one backend class for every program that serves orch.backend.v1.BackendPlugin.
#pragma once

#include <memory>
#include <string>

#include "backends/api/backend.h"
#include "backends/api/registry.h"
#include "backends/plugin/session.h"

namespace orch {

namespace plugin {

// `description`: as the flavor was registered; its schemas are what configuration and settings are checked by.
std::unique_ptr<Backend> MakePluginBackend(const BackendContext& context, const std::string& flavor,
                                           const PluginSource& source, const v1::DescribeResponse& description,
                                           const Limits& limits);

}  // namespace plugin

// With these limits for all plug-ins.
std::unique_ptr<PluginHost> MakePluginHost(const plugin::Limits& limits);

}  // namespace orch
