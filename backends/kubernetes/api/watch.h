// All objects of one kind with certain labels, followed: a list, then its changes by one stream, for as long as wanted.
// Nothing of the objects is kept here.
//
// On the client's thread; functions are called from within Client::Poll.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "backends/kubernetes/api/answer.h"
#include "backends/kubernetes/api/client.h"
#include "backends/kubernetes/api/watch_stream.h"

namespace orch::kubernetes {

struct WatchSettings {
  int page = 500;            // objects of a list in one answer
  int stream_seconds = 300;  // after which the server ends a stream, and another one begins
};

class Watch {
 public:
  struct Calls {
    // A full list begins (again): each object is Seen, then Listed. What was not seen in between is gone.
    std::function<void()> listing;
    std::function<void(const nlohmann::json& object)> seen;  // listed, added or changed
    std::function<void(const nlohmann::json& object)> gone;  // deleted; its last state
    std::function<void()> listed;
    // A list or a watch was not answered as it should be, or not at all for the second time in a row. It is tried again
    // after a pause that grows.
    std::function<void(const Answer& answer)> failed;
  };

  // `path`: of the collection (`/apis/batch/v1/namespaces/x/jobs`). `selector`: of labels, not escaped.
  Watch(Client* client, std::string path, std::string selector, Calls calls, WatchSettings settings = {});
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  void Start();
  void Stop();
  // The server is known to answer again: a pause is not waited for any longer.
  void Hurry();

  // Full lists so far; after the first there is another only when changes were missed.
  int64_t lists() const { return lists_; }
  // The resource version that has been reached: it grows also without changes.
  const std::string& version() const { return version_; }

 private:
  void List(const std::string& next_page);
  void OnPage(Answer answer);
  void Open();
  void OnEvent(WatchEvent event);
  void OnEnd(Answer answer);
  // Tries again: the list, or only the stream.
  void Again(bool list, bool at_once);
  void Pause(int64_t micros, bool list);
  void Go();

  Client* const client_;
  const std::string path_, selector_;
  const Calls calls_;
  const WatchSettings settings_;
  WatchStream stream_;
  std::string version_;    // where the stream goes on
  bool expired_ = false;   // the stream has said that this is too old
  bool broken_ = false;    // it was no stream of events
  bool news_ = false;      // it has brought something
  int64_t opened_at_ = 0;  // mono
  int failures_ = 0;       // in a row
  int64_t lists_ = 0;
  uint64_t call_ = 0;  // the list, the stream or the pause
  bool paused_ = false;
  bool lists_next_ = false;  // after the pause
};

}  // namespace orch::kubernetes
