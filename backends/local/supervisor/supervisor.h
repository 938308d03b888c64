// The supervisor of local steps: one small process per data directory that outlives the daemon. It spawns, captures,
// reaps, kills what is left behind, and keeps every end until the daemon has committed it.
//
// One thread and one epoll loop. It decides nothing: the daemon says what to start and what to stop.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backends/local/supervisor/capture.h"
#include "backends/local/supervisor/cgroup.h"
#include "backends/local/supervisor/journal.h"
#include "backends/local/supervisor/slot.h"
#include "backends/local/wire.h"

namespace orch::local {

// How an image of this program tells the next one the descriptor of what it had in memory alone.
inline constexpr char kStateVariable[] = "ORCH_SUPERVISOR_STATE";

struct SupervisorOptions {
  std::string data_dir;
  std::string socket_path;
  std::string version;
  bool cgroups = true;
  int lock_fd = -1;   // held already, after an upgrade
  int state_fd = -1;  // what the image before had in memory alone, after an upgrade; -1: nothing
  int64_t idle_exit_micros = 10'000'000;
};

class Supervisor {
 public:
  explicit Supervisor(SupervisorOptions options);
  ~Supervisor();

  // Takes the lock, reads the journal, listens. 0, or an exit code.
  int Open();
  // Until idle. Returns the exit code.
  int Run();

 private:
  struct Step {
    Journal::Record record;
    bool live = false;  // its main process has not been reaped, or others are left
    bool start_told = false;
    bool main_gone = false;
    bool stop_sent = false;
    bool killed = false;
    int looks = 0;                     // for children in the middle of an exec, after its end
    bool adopted = false;              // started by an earlier image of this process
    int64_t kill_at_mono = 0;          // when the grace is over; 0: no stop
    std::unique_ptr<Capture> capture;  // of one with secrets
    End end;
  };
  struct Untold {
    std::string key;
    int64_t due;
  };
  struct Client {
    int fd = -1;
    FrameReader in;
    std::string out;
    bool wants_write = false;
    bool known = false;    // it has said who it is
    bool greeted = false;  // and is of this version
    int64_t epoch = 0;
    std::string name;
  };

  int64_t Mono() const;
  int64_t Wall() const;
  bool TakeLock();
  bool Listen();
  void RestoreJournal();
  void TellStarts();
  void EndEverything(const std::string& cgroup_base);
  void EndLost(const std::string& key, Step& step, const std::string& cgroup_base);

  void OnAccept();
  void OnReadable(int fd);
  void OnFrame(Client& client, const Frame& frame);
  void OnHello(Client& client, const Hello& hello);
  void OnSpawn(Client& client, const Spawn& spawn);
  void OnCancel(const Cancel& cancel);
  void OnAck(const Ack& ack);
  void OnUpgrade(const Upgrade& upgrade);
  void MaybeUpgrade();
  void OnChildren();
  void OnTick();

  void MainEnded(const std::string& key, Step& step, int status, int64_t cpu_micros, int64_t peak_memory);
  // True when nothing of the step is left; kills what is.
  bool Finish(const std::string& key, Step& step);
  std::vector<pid_t> ProcessesOf(const std::string& key, const Step& step) const;
  // Where there are no cgroups: true while a process is left that a look at all of them, which takes its time, missed,
  // or one that cannot be told yet.
  bool MayBeHidden(const std::string& key, Step& step);
  // … and ends what no step that lives can have made.
  void EndOrphans();
  void KillStep(const std::string& key, Step& step);
  void Sample(Step& step);
  // Steps with secrets: what they write comes through here.
  void Watch(const std::string& key, const Capture& capture);
  void OnPipe(int fd);
  void EndCapture(Step& step);
  int SaveCaptures();
  void RestoreCaptures();
  Slot& SlotOf(const std::string& name);

  void Send(Client& client, const std::string& frame);
  void Tell(const std::string& slot, const std::string& frame);
  void Flush(Client& client);
  void Drop(int fd);
  void Arm();

  SupervisorOptions options_;
  std::unique_ptr<CgroupPool> cgroups_;
  Journal journal_;
  std::map<std::string, Step> steps_;  // by key; gone after Ack
  std::map<std::string, std::unique_ptr<Slot>> slots_;
  std::map<std::string, std::string> holders_;  // key, by slot
  std::map<pid_t, std::string> by_pid_;         // main processes
  std::map<int, Client> clients_;
  struct Pipe {
    std::string key;
    int stream;
  };
  std::map<int, Pipe> pipes_;  // by the descriptor of this end
  std::deque<Untold> untold_;  // starts that nobody has been told of, oldest first
  int live_ = 0;
  int epoll_ = -1;
  int listen_ = -1;
  int signals_ = -1;
  int timer_ = -1;
  int null_ = -1;
  bool ticked_ = false;
  int64_t armed_ = 0;  // the timer's period now
  int64_t idle_since_ = 0;
  int64_t epoch_ = 0;  // the latest daemon's
  bool journal_read_ = false;
  std::string upgrade_to_;  // the program to become as soon as no step is between its end and the word of it
  bool exit_ = false;
};

}  // namespace orch::local
