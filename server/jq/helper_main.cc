// orch-jq: evaluates jq expressions for the daemon, which it talks to on its standard input, one request at a time.
//
// A process of its own, because libjq ends its process when memory runs out, and because an expression may loop for
// ever. It has no environment, no files but the socket, and limits on memory and on CPU time per request; when it dies,
// the daemon says so of the expression at hand and starts another.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <list>
#include <string>
#include <unordered_map>

extern "C" {
#include <jq.h>
#include <jv.h>
}

#include "server/jq/wire.h"

namespace {

using orch::jq::Outcome;
using orch::jq::Reply;
using orch::jq::Request;

#ifndef ORCH_SANITIZED
constexpr rlim_t kMemory = rlim_t{1} << 30;  // address space, of which libjq and its tables take some 30 MB
#endif
constexpr rlim_t kCpuSeconds = 2;  // a request
constexpr size_t kKept = 64;       // compiled expressions; making one costs 13 ms

std::string Dump(jv value) {
  jv text = jv_dump_string(value, 0);
  std::string out(jv_string_value(text), static_cast<size_t>(jv_string_length_bytes(jv_copy(text))));
  jv_free(text);
  return out;
}

// libjq's own words, the first of them only: the rest is about its internals.
void Collect(void* data, jv message) {
  auto* first = static_cast<std::string*>(data);
  if (first->empty() && jv_get_kind(message) == JV_KIND_STRING) *first = jv_string_value(message);
  jv_free(message);
}

std::string OneLine(std::string text) {
  for (char& c : text) {
    if (c == '\n' || c == '\t') c = ' ';
  }
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

// One expression, compiled.
class Program {
 public:
  explicit Program(const std::string& expression) : jq_(jq_init()) {
    jq_set_error_cb(jq_, Collect, &complaint_);
    compiled_ = jq_compile(jq_, expression.c_str()) != 0;
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() { jq_teardown(&jq_); }

  bool compiled() const { return compiled_; }
  std::string complaint() const {
    return complaint_.empty() ? std::string("it is no jq expression") : OneLine(complaint_);
  }

  Reply Evaluate(const std::string& json) {
    jv input = jv_parse_sized(json.data(), static_cast<int>(json.size()));
    if (!jv_is_valid(input)) {
      jv_free(input);
      return {Outcome::kFailed, "what it is asked about is no JSON"};
    }
    jq_start(jq_, input, 0);
    std::string result;
    for (int results = 0;; ++results) {
      jv next = jq_next(jq_);
      if (jv_is_valid(next)) {
        if (results == 1) {
          jv_free(next);
          return {Outcome::kFailed, "it has more than one result"};
        }
        result = Dump(next);
        continue;
      }
      if (!jv_invalid_has_msg(jv_copy(next))) {
        jv_free(next);
        if (results == 0) return {Outcome::kFailed, "it has no result"};
        return {Outcome::kResult, result};
      }
      jv message = jv_invalid_get_msg(next);
      const std::string why =
          jv_get_kind(message) == JV_KIND_STRING ? std::string(jv_string_value(message)) : Dump(jv_copy(message));
      jv_free(message);
      return {Outcome::kFailed, OneLine(why)};
    }
  }

 private:
  jq_state* jq_;
  std::string complaint_;
  bool compiled_ = false;
};

// The most recently used ones.
class Programs {
 public:
  Program& Get(const std::string& expression) {
    const auto found = by_text_.find(expression);
    if (found != by_text_.end()) {
      recent_.splice(recent_.begin(), recent_, found->second);
      return recent_.front().program;
    }
    if (recent_.size() >= kKept) {
      by_text_.erase(recent_.back().text);
      recent_.pop_back();
    }
    recent_.emplace_front(expression);
    by_text_[expression] = recent_.begin();
    return recent_.front().program;
  }

 private:
  struct Kept {
    explicit Kept(const std::string& expression) : text(expression), program(expression) {}
    std::string text;
    Program program;
  };
  std::list<Kept> recent_;
  std::unordered_map<std::string, std::list<Kept>::iterator> by_text_;
};

// The whole process may use this much more CPU time: more is SIGXCPU.
void AllowCpu() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const rlim_t now = static_cast<rlim_t>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + 1;
  const rlimit limit{now + kCpuSeconds, RLIM_INFINITY};
  setrlimit(RLIMIT_CPU, &limit);
}

}  // namespace

int main() {
  prctl(PR_SET_DUMPABLE, 0);
#ifndef ORCH_SANITIZED  // sanitizers map far more than they use
  const rlimit memory{kMemory, kMemory};
  setrlimit(RLIMIT_AS, &memory);
#endif
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  setrlimit(RLIMIT_FSIZE, &none);
  Programs programs;
  Request request;
  while (orch::jq::Read(STDIN_FILENO, &request)) {
    AllowCpu();
    Program& program = programs.Get(request.expression);
    Reply reply;
    if (!program.compiled()) {
      reply = {Outcome::kInvalid, program.complaint()};
    } else if (request.compile_only) {
      reply = {Outcome::kCompiled, ""};
    } else {
      reply = program.Evaluate(request.input);
    }
    if (!orch::jq::Write(STDIN_FILENO, reply)) return 1;
  }
  return 0;
}
