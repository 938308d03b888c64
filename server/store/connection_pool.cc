#include "server/store/connection_pool.h"

#include <SQLiteCpp/Exception.h>
#include <sqlite3.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/base/status.h"
#include "server/store/pragmas.h"

namespace orch::store {
namespace {
// Instructions of SQLite's machine between two looks at the clock: some tens of microseconds.
constexpr int kProgressOps = 4000;
// A reader waits for the writer only while it recovers the log after a crash.
constexpr int kBusyMillis = 1000;
// Filters make many texts; beyond this a connection forgets them between calls.
constexpr size_t kMaxStatements = 100;
}  // namespace

Connection::Connection(const std::string& path) : db_(path, SQLite::OPEN_READONLY | SQLite::OPEN_NOMUTEX, kBusyMillis) {
  SetUpReader(db_);
  sqlite3_progress_handler(db_.getHandle(), kProgressOps, &Connection::OnProgress, this);
}

Connection::~Connection() = default;

int Connection::OnProgress(void* self) {
  const int64_t deadline = static_cast<Connection*>(self)->deadline_;
  return deadline != 0 && Clock::Real().Now().mono > deadline ? 1 : 0;
}

void Connection::EndCall() {
  deadline_ = 0;
  if (statements_.size() > kMaxStatements) statements_.clear();
}

Connection::Prepared Connection::Prepare(const std::string& sql) {
  const auto it = statements_.find(sql);
  if (it != statements_.end()) return Prepared(it->second.get());
  auto statement = std::make_unique<SQLite::Statement>(db_, sql);
  SQLite::Statement* const out = statement.get();
  statements_.emplace(sql, std::move(statement));
  return Prepared(out);
}

absl::StatusOr<std::unique_ptr<ConnectionPool>> ConnectionPool::Open(const std::string& path, int connections,
                                                                     int64_t deadline_micros) {
  auto pool = absl::WrapUnique(new ConnectionPool(path, std::max(connections, 1), deadline_micros));
  RETURN_IF_ERROR(pool->Read("opening the database for reading", [](Connection& c) {
    auto s = c.Prepare("SELECT epoch FROM meta");
    (void)s.Next();  // only that it can be read matters
    return absl::OkStatus();
  }));
  return pool;
}

absl::StatusOr<std::unique_ptr<Connection>> ConnectionPool::Borrow(const char* doing) {
  const int64_t deadline = Clock::Real().Now().mono + deadline_micros_;
  std::unique_ptr<Connection> out;
  {
    MutexLock lock(&mutex_);
    while (free_.empty() && unopened_ == 0) {
      const int64_t left = deadline - Clock::Real().Now().mono;
      if (left <= 0) {
        return Error(absl::StatusCode::kUnavailable, "DATABASE_BUSY",
                     absl::StrCat(doing, " found no free connection to the database in time: try again"));
      }
      (void)came_free_.WaitFor(&mutex_, std::chrono::microseconds(left));  // the loop looks again
    }
    if (!free_.empty()) {
      out = std::move(free_.back());
      free_.pop_back();
    } else {
      --unopened_;
    }
  }
  if (out == nullptr) {
    try {
      out = std::make_unique<Connection>(path_);
    } catch (const SQLite::Exception& e) {
      MutexLock lock(&mutex_);
      ++unopened_;
      came_free_.NotifyOne();
      return FromSqlite(e, doing);
    }
  }
  out->set_deadline(deadline);
  return out;
}

void ConnectionPool::GiveBack(std::unique_ptr<Connection> connection) {
  connection->EndCall();
  MutexLock lock(&mutex_);
  free_.push_back(std::move(connection));
  came_free_.NotifyOne();
}

}  // namespace orch::store
