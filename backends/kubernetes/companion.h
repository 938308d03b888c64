// Whoever shares the link to the cluster with the attempts that have Jobs, and has pods there of another making.
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace orch::kubernetes {

// On the thread of the Jobs that it is attached to; as ClusterLink::Calls.
class Companion {
 public:
  virtual ~Companion() = default;
  virtual void Anew() = 0;
  // All there is is listed from now on.
  virtual void Begin() = 0;
  // Of everything that belongs to no attempt with a Job: `pod`, or the object that pods are made for.
  virtual void Seen(const nlohmann::json& object, bool pod, bool gone) = 0;
  virtual void Listing(bool pods) = 0;
  virtual void Listed(bool pods) = 0;
  virtual void Back() = 0;
};

}  // namespace orch::kubernetes
