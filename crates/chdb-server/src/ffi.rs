//! The C interface of libchdb 26.7, loaded at run time: the only unsafe code of the workspace.
//!
//! What the library's header promises, and what this module relies on: a connection runs one statement at a time; many
//! connections may be open at once, on any threads; text is copied before a call returns; a result stays valid until
//! it is destroyed; errors are C strings that live as long as their result.
#![expect(unsafe_code, reason = "libchdb is a C library; every call is wrapped here")]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    path::Path,
    ptr::NonNull,
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use libloading::os::unix::{Library as UnixLibrary, RTLD_LOCAL, RTLD_NOW};

type RawConnection = *mut c_void;
type RawResult = *mut c_void;
type RawInsert = *mut c_void;

macro_rules! functions {
    ($($name:ident: fn($($arg:ty),*) $(-> $ret:ty)?;)*) => {
        /// Entry points, valid as long as the library stays loaded: for the life of the process.
        struct Functions {
            $($name: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)*
        }

        impl Functions {
            fn load(library: &UnixLibrary) -> Result<Self> {
                Ok(Self {
                    $($name: {
                        // SAFETY: the type is that of the header of the pinned version.
                        *unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) }
                            .context(concat!("libchdb has no ", stringify!($name)))?
                    },)*
                })
            }
        }
    };
}

functions! {
    chdb_set_signal_handlers_enabled: fn(c_int);
    chdb_connect: fn(c_int, *mut *mut c_char) -> *mut RawConnection;
    chdb_close_conn: fn(*mut RawConnection);
    chdb_shutdown: fn() -> c_int;
    chdb_query_with_params_n: fn(
        RawConnection, *const c_char, usize, *const c_char, usize,
        *const *const c_char, *const usize, *const *const c_char, *const usize, usize
    ) -> RawResult;
    chdb_classify_query_n: fn(
        RawConnection, *const c_char, usize, *const c_char, usize, *mut Analysis
    ) -> c_int;
    chdb_stream_insert_with_params_n: fn(
        RawConnection, *const c_char, usize, *const c_char, usize,
        *const *const c_char, *const usize, *const *const c_char, *const usize, usize
    ) -> RawInsert;
    chdb_stream_append: fn(RawInsert, *const c_void, usize) -> c_int;
    chdb_stream_done: fn(RawInsert) -> RawResult;
    chdb_stream_insert_error: fn(RawInsert) -> *const c_char;
    chdb_destroy_insert_stream: fn(RawInsert);
    chdb_result_buffer: fn(RawResult) -> *mut c_char;
    chdb_result_length: fn(RawResult) -> usize;
    chdb_result_rows_read: fn(RawResult) -> u64;
    chdb_result_storage_rows_read: fn(RawResult) -> u64;
    chdb_result_storage_bytes_read: fn(RawResult) -> u64;
    chdb_result_rows_written: fn(RawResult) -> u64;
    chdb_result_bytes_written: fn(RawResult) -> u64;
    chdb_result_error: fn(RawResult) -> *const c_char;
    chdb_destroy_query_result: fn(RawResult);
}

/// `chdb_query_analysis_v1`: what the engine's parser says of a text.
#[repr(C)]
struct Analysis {
    struct_size: u32,
    statement_count: u32,
    flags: u32,
    query_class: u32,
}

/// The loaded library.
pub struct Library {
    functions: Functions,
}

impl Library {
    /// Loads the library for the rest of the process.
    pub fn load(path: &Path) -> Result<Arc<Self>> {
        // SAFETY: the caller gives the path of libchdb, whose initialisers have no requirements.
        let library = unsafe { UnixLibrary::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
            .with_context(|| format!("loading {}", path.display()))?;
        let functions = Functions::load(&library)?;
        // Its threads and thread-locals can't be unloaded.
        std::mem::forget(library);
        // SAFETY: called before the first connection, as the header asks. SIGTERM stays ours.
        unsafe { (functions.chdb_set_signal_handlers_enabled)(0) };
        Ok(Arc::new(Self { functions }))
    }

    /// Opens a connection; the first one starts the engine on `data`.
    pub fn connect(self: &Arc<Self>, data: &Path) -> Result<Connection> {
        let path = data.to_str().context("the data folder's name is not UTF-8")?;
        let mut args = [CString::new("chdb")?, CString::new(format!("--path={path}"))?].map(CString::into_raw);
        // SAFETY: two valid, writable, NUL-terminated strings; the library copies them.
        let raw = unsafe { (self.functions.chdb_connect)(2, args.as_mut_ptr()) };
        for arg in args {
            // SAFETY: made by `into_raw` above, and the library neither keeps nor resizes it.
            drop(unsafe { CString::from_raw(arg) });
        }
        let raw = NonNull::new(raw).context("libchdb refused the connection; is the data folder in use?")?;
        // SAFETY: points to the connection until it is closed.
        ensure!(!unsafe { raw.read() }.is_null(), "libchdb gave no connection");
        Ok(Connection { library: Arc::clone(self), raw })
    }

    /// Ends the engine's threads. All connections must be closed.
    pub fn shutdown(&self) -> bool {
        // SAFETY: may be called at any time; does nothing while connections are open.
        unsafe { (self.functions.chdb_shutdown)() == 0 }
    }
}

/// Named values for `{name:Type}` placeholders.
pub type Params = [(String, String)];

struct ParamArrays {
    names: Vec<*const c_char>,
    name_lengths: Vec<usize>,
    values: Vec<*const c_char>,
    value_lengths: Vec<usize>,
}

impl ParamArrays {
    /// Points into `params`, which must outlive the call.
    fn new(params: &Params) -> Self {
        Self {
            names: params.iter().map(|(name, _)| name.as_ptr().cast()).collect(),
            name_lengths: params.iter().map(|(name, _)| name.len()).collect(),
            values: params.iter().map(|(_, value)| value.as_ptr().cast()).collect(),
            value_lengths: params.iter().map(|(_, value)| value.len()).collect(),
        }
    }
}

/// One session: settings and the current database are its own.
pub struct Connection {
    library: Arc<Library>,
    raw: NonNull<RawConnection>,
}

// SAFETY: the library allows use from any thread, one call at a time, which `&mut self` gives.
unsafe impl Send for Connection {}

impl Connection {
    /// How many statements the engine's parser finds in a text; 0 when it can't be parsed. Runs nothing.
    pub fn count_statements(&mut self, sql: &[u8]) -> u32 {
        const SIZE: u32 = size_of::<Analysis>() as u32;
        let mut analysis = Analysis { struct_size: SIZE, statement_count: 0, flags: 0, query_class: 0 };
        // SAFETY: an open connection, a buffer with its length, no target database, and a struct that says its size.
        let state = unsafe {
            (self.library.functions.chdb_classify_query_n)(
                self.raw.read(),
                sql.as_ptr().cast(),
                sql.len(),
                std::ptr::null(),
                0,
                &raw mut analysis,
            )
        };
        if state == 0 { analysis.statement_count } else { 0 }
    }

    /// Runs one statement.
    pub fn query(&mut self, sql: &[u8], format: &str, params: &Params) -> QueryResult {
        let arrays = ParamArrays::new(params);
        // SAFETY: an open connection; all buffers live through the call and are given with their lengths.
        let raw = unsafe {
            (self.library.functions.chdb_query_with_params_n)(
                self.raw.read(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                arrays.names.as_ptr(),
                arrays.name_lengths.as_ptr(),
                arrays.values.as_ptr(),
                arrays.value_lengths.as_ptr(),
                params.len(),
            )
        };
        QueryResult { library: Arc::clone(&self.library), raw }
    }

    /// Runs an INSERT without its FORMAT clause on data in that format.
    pub fn insert(&mut self, sql: &str, format: &str, params: &Params, data: &[u8]) -> Result<QueryResult, String> {
        let functions = &self.library.functions;
        let arrays = ParamArrays::new(params);
        // SAFETY: as in `query`.
        let raw = unsafe {
            (functions.chdb_stream_insert_with_params_n)(
                self.raw.read(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                arrays.names.as_ptr(),
                arrays.name_lengths.as_ptr(),
                arrays.values.as_ptr(),
                arrays.value_lengths.as_ptr(),
                params.len(),
            )
        };
        let stream = InsertStream { library: Arc::clone(&self.library), raw };
        if let Some(error) = stream.error() {
            return Err(error);
        }
        // A failed append shows in the result, with its reason.
        for chunk in data.chunks(INSERT_CHUNK) {
            // SAFETY: an open stream and a buffer with its length; the library copies it.
            if unsafe { (functions.chdb_stream_append)(stream.raw, chunk.as_ptr().cast(), chunk.len()) } != 0 {
                break;
            }
        }
        // SAFETY: an open stream.
        let raw = unsafe { (functions.chdb_stream_done)(stream.raw) };
        Ok(QueryResult { library: Arc::clone(&self.library), raw })
    }
}

const INSERT_CHUNK: usize = 1 << 20;

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: open, and not used again.
        unsafe { (self.library.functions.chdb_close_conn)(self.raw.as_ptr()) };
    }
}

struct InsertStream {
    library: Arc<Library>,
    raw: RawInsert,
}

impl InsertStream {
    fn error(&self) -> Option<String> {
        // SAFETY: a stream that was not destroyed; the text is copied at once.
        unsafe { copied((self.library.functions.chdb_stream_insert_error)(self.raw)) }
    }
}

impl Drop for InsertStream {
    fn drop(&mut self) {
        // SAFETY: not destroyed before; cancels what was not finished.
        unsafe { (self.library.functions.chdb_destroy_insert_stream)(self.raw) };
    }
}

/// What a statement gave.
pub struct QueryResult {
    library: Arc<Library>,
    raw: RawResult,
}

// SAFETY: the result is a block of memory of its own; nothing changes it until it is destroyed.
unsafe impl Send for QueryResult {}
// SAFETY: as above: reading from several threads is reading.
unsafe impl Sync for QueryResult {}

impl QueryResult {
    /// Why it failed.
    pub fn error(&self) -> Option<String> {
        if self.raw.is_null() {
            return Some("libchdb gave no result".into());
        }
        // SAFETY: a result that was not destroyed; the text is copied at once.
        unsafe { copied((self.library.functions.chdb_result_error)(self.raw)) }
    }

    /// The rows, in the format that was asked for.
    pub fn bytes(&self) -> &[u8] {
        let functions = &self.library.functions;
        // SAFETY: a result that was not destroyed.
        let (buffer, length) =
            unsafe { ((functions.chdb_result_buffer)(self.raw), (functions.chdb_result_length)(self.raw)) };
        if buffer.is_null() || length == 0 {
            return &[];
        }
        // SAFETY: the library says so long is its buffer, and keeps it as long as `self` lives.
        unsafe { std::slice::from_raw_parts(buffer.cast_const().cast(), length) }
    }

    /// The numbers of the `X-ClickHouse-Summary` header.
    pub fn counts(&self) -> [(&'static str, u64); 5] {
        let functions = &self.library.functions;
        // SAFETY: a result that was not destroyed.
        unsafe {
            [
                ("read_rows", (functions.chdb_result_storage_rows_read)(self.raw)),
                ("read_bytes", (functions.chdb_result_storage_bytes_read)(self.raw)),
                ("written_rows", (functions.chdb_result_rows_written)(self.raw)),
                ("written_bytes", (functions.chdb_result_bytes_written)(self.raw)),
                ("result_rows", (functions.chdb_result_rows_read)(self.raw)),
            ]
        }
    }
}

impl AsRef<[u8]> for QueryResult {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Drop for QueryResult {
    fn drop(&mut self) {
        // SAFETY: destroyed once, here; null is allowed.
        unsafe { (self.library.functions.chdb_destroy_query_result)(self.raw) };
    }
}

/// # Safety
/// Null, or a NUL-terminated string that lives through the call.
unsafe fn copied(text: *const c_char) -> Option<String> {
    // SAFETY: promised by the caller.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
