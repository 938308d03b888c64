// What references and descriptions of images say: pure.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace orch::docker {

// A reference as a pull wants it. One with a digest has no tag of its own.
struct ImageReference {
  std::string repository;  // with the registry in front, and the digest behind
  std::string tag;         // never empty without a digest: a pull without one is of every tag
  std::string registry;    // `host[:port]`; the public one is `docker.io`
};
ImageReference ParseImage(absl::string_view image);

// PATH in an image, from the engine's description of it.
std::string PathOf(const std::string& description);

// Reads what an engine says while it pulls: JSON objects, one after another.
class PullProgress {
 public:
  void Feed(absl::string_view bytes);
  // What it failed with, in the engine's words; empty: it has not. The status of HTTP says nothing of that.
  const std::string& fault() const { return fault_; }
  // Of the layers that are being fetched: bytes there, bytes in all, as far as it has said.
  std::string Words() const;

 private:
  void Line(const std::string& line);

  std::string text_;
  std::string fault_;
  std::string status_;
  int64_t there_ = 0;
  int64_t total_ = 0;
};

}  // namespace orch::docker
