// A slot is a place where one step runs at a time: capture files, a scratch and an output folder, handed out again when
// they are empty. New names on the disk cost every commit of the database, so a step that writes nothing makes none.
//
//   DIR/local/slots/NAME/out, err          capture files while they are empty
//   DIR/local/slots/NAME/scratch, output   empty at the start of each attempt
#pragma once

#include <cstdint>
#include <string>

namespace orch::local {

class Slot {
 public:
  explicit Slot(std::string dir) : dir_(std::move(dir)) {}
  ~Slot();
  Slot(Slot&&) = delete;
  Slot& operator=(Slot&&) = delete;

  // Makes what is missing and begins a new pair of streams. 0, or an errno.
  int Prepare();
  // Takes over the streams of an attempt that an earlier image of this process had started.
  void Reopen(const std::string& log_prefix);
  int out_fd() const { return streams_[0].fd; }
  int err_fd() const { return streams_[1].fd; }

  // Looks at the sizes: what has content gets its name below `log_prefix`, and an entry in its index.
  void Sample(const std::string& log_prefix, int64_t wall);
  int64_t stdout_bytes() const { return streams_[0].size; }
  int64_t stderr_bytes() const { return streams_[1].size; }

  // Deletes whatever the attempt left in its folders. False if something could not be deleted.
  bool Clean();

 private:
  struct Stream {
    int fd = -1;
    bool named = false;  // it has its final name; the next attempt gets a new file
    int64_t size = 0;
    int index_fd = -1;
  };
  void SampleStream(Stream& stream, const char* name, const char* suffix, const std::string& log_prefix, int64_t wall);
  void Drop(Stream& stream);

  const std::string dir_;
  Stream streams_[2];
  bool made_ = false;
};

// Deletes everything inside a folder, following no links. False if something is left.
bool RemoveContents(const std::string& dir);
// Like `mkdir -p`, 0700. 0, or an errno.
int MakeFolders(const std::string& dir);

}  // namespace orch::local
