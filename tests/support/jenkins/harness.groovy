// Runs a Jenkinsfile with Groovy 2.4, without Jenkins: every step below really does what it is named for, `sh` through
// /bin/sh -xe as Jenkins runs it. Scripted code and shared libraries go through groovy-cps, the transformation that
// Jenkins applies; a Jenkinsfile that is a declarative `pipeline` runs as closures. Steps and parameters that are not
// here end the build, as unknown ones do in Jenkins. A double: what Jenkins itself does (queue, agents, restart) is not here.
//   java -cp groovy-cps.jar:guava.jar:groovy/* groovy.ui.GroovyMain harness.groovy request.json
import com.cloudbees.groovy.cps.Continuation
import com.cloudbees.groovy.cps.CpsTransformer
import com.cloudbees.groovy.cps.SerializableScript
import com.cloudbees.groovy.cps.impl.CpsCallableInvocation
import groovy.io.FileType
import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import java.util.concurrent.atomic.AtomicInteger
import org.codehaus.groovy.control.CompilerConfiguration
import org.codehaus.groovy.control.customizers.ImportCustomizer

@interface Library { String[] value() }

/** Where a step runs: variables, folders, and what the log must not show. Never changed, only replaced for a body. */
class Place {
    Map<String, String> env = [:]
    File workspace, folder
    List<String> secrets = []
    int attempt = 0

    Place with(Map changes) {
        new Place([env: env, workspace: workspace, folder: folder, secrets: secrets, attempt: attempt] + changes)
    }
}

class Failed extends RuntimeException {
    String result
    Failed(String message, String result = 'FAILURE') { super(message); this.result = result }
}

class Build {
    static final List<String> RESULTS = ['SUCCESS', 'UNSTABLE', 'FAILURE', 'NOT_BUILT', 'ABORTED']
    static Map request
    static volatile String result = 'SUCCESS'
    static final List<Map> steps = Collections.synchronizedList([])
    static final List<String> archived = Collections.synchronizedList([]), reports = Collections.synchronizedList([])
    static final Map<String, File> stashes = Collections.synchronizedMap([:])
    static final Set<File> busy = Collections.synchronizedSet(new HashSet())
    static final AtomicInteger serial = new AtomicInteger()
    static final InheritableThreadLocal<Place> places = new InheritableThreadLocal<Place>()

    static Place getPlace() { places.get() }

    static void worsen(String other) {
        synchronized (Build) { if (RESULTS.indexOf(other) > RESULTS.indexOf(result)) result = other }
    }

    static synchronized void log(String line) {
        String shown = line
        for (String secret : place.secrets.sort { -it.size() }) shown = shown.replace(secret, '****')
        System.out.println(shown)
        System.out.flush()
    }

    /** Run a body; code that groovy-cps has transformed is evaluated to its end. */
    static Object run(Closure body, Object... arguments) {
        try {
            return body.call(*arguments)
        } catch (CpsCallableInvocation invocation) {
            return invocation.invoke(null, null, Continuation.HALT).run().yield.replay()
        }
    }

    static Object runAt(Place changed, Closure body, Object... arguments) {
        Place before = place
        places.set(changed)
        try { return run(body, arguments) } finally { places.set(before) }
    }

    static List<String> variables(List<String> pairs) {
        pairs.collect { String pair ->
            if (!pair.contains('=')) throw new Failed("withEnv: ${pair} is not NAME=VALUE")
            pair
        }
    }

    /** Start a program, log what it says; [status, stdout when it is wanted]. */
    static List execute(List<String> command, boolean keep, Map<String, String> more = [:]) {
        ProcessBuilder builder = new ProcessBuilder(command).directory(place.folder)
        builder.environment().clear()
        builder.environment().putAll(place.env + more)
        if (!keep) builder.redirectErrorStream(true)
        Process process = builder.start()
        process.outputStream.close()
        Thread errors = keep ? Thread.start { process.errorStream.eachLine { log(it) } } : null
        StringBuilder kept = new StringBuilder()
        if (keep) kept << process.inputStream.getText('UTF-8')
        else process.inputStream.eachLine('UTF-8') { log(it) }
        errors?.join()
        [process.waitFor(), kept.toString()]
    }

    static File onAgent() {
        synchronized (busy) {
            File base = new File(request.folder, "workspace/${request.environment.JOB_NAME.replace('/', '_')}")
            File free = (1..99).collect { it == 1 ? base : new File("${base.path}@${it}") }.find { !(it in busy) }
            busy << free
            free.mkdirs()
            free
        }
    }
}

/** The steps, by their names in Jenkins. */
class Steps {
    /** name -> its parameters; the first is the one that may be given without its name. */
    static final Map<String, List<String>> PARAMETERS = [
        sh: ['script', 'returnStdout', 'returnStatus', 'label', 'encoding'],
        echo: ['message'], error: ['message'], unstable: ['message'],
        junit: ['testResults', 'allowEmptyResults', 'skipPublishingChecks', 'skipMarkingBuildUnstable', 'keepLongStdio', 'checksName'],
        archiveArtifacts: ['artifacts', 'allowEmptyArchive', 'excludes', 'fingerprint', 'onlyIfSuccessful', 'defaultExcludes'],
        stash: ['name', 'includes', 'excludes', 'allowEmpty', 'useDefaultExcludes'], unstash: ['name'],
        timeout: ['time', 'unit', 'activity'], retry: ['count', 'conditions'], lock: ['resource', 'label', 'quantity', 'inversePrecedence'],
        catchError: ['message', 'buildResult', 'stageResult', 'catchInterruptions'],
        node: ['label'], stage: ['name'], dir: ['path'], container: ['name'], ws: ['dir'],
        podTemplate: ['yaml', 'label', 'inheritFrom', 'cloud', 'namespace', 'serviceAccount'],
        readFile: ['file', 'encoding'], writeFile: ['file', 'text', 'encoding'], fileExists: ['file'],
        input: ['message', 'id', 'ok', 'submitter', 'submitterParameter', 'parameters'],
        usernamePassword: ['credentialsId', 'usernameVariable', 'passwordVariable'],
        file: ['credentialsId', 'variable'], string: ['credentialsId', 'variable'],
        gerrit: ['serverName', 'gerritProjects', 'triggerOnEvents', 'skipVote', 'silentMode', 'silentStartMode', 'customUrl',
                 'changeSubjectParameterMode', 'commitMessageParameterMode', 'nameAndEmailParameterMode', 'commentTextParameterMode'],
        scmGit: ['branches', 'userRemoteConfigs', 'extensions'],
    ]
    static final List<String> EVENTS = ['patchsetCreated', 'changeMerged', 'refUpdated', 'commentAdded', 'commentAddedContains', 'rerunCheck', 'wipStateChanged']
    static final List<String> CLEAN = ['cleanBeforeCheckout', 'cleanAfterCheckout', 'cloneOption', 'localBranch']

    /** The parameters of a call, by name. */
    static Map named(String step, List arguments) {
        List<String> allowed = PARAMETERS[step]
        Map given = [:]
        for (Object argument : arguments) {
            if (argument instanceof Map) given += argument
            else if (argument != null) given[allowed[0]] = argument
        }
        Object unknown = given.keySet().find { !(it in allowed) }
        if (unknown != null) throw new Failed("${step}: no parameter ${unknown}: there are ${allowed.join(', ')}")
        given
    }

    static Object call(String name, List arguments) {
        Closure body = arguments && arguments[-1] instanceof Closure ? arguments[-1] : null
        List rest = body == null ? arguments : arguments[0..<-1]
        Build.steps << [step: name, arguments: rest.collect { it.toString() }]
        if (name in EVENTS || name in CLEAN) return [$symbol: name, arguments: rest]
        switch (name) {
            case 'withEnv': return withEnv(rest[0], body)
            case 'withCredentials': return withCredentials(rest[0], body)
            case 'parallel': return parallel(rest[0])
            case 'checkout': return checkout(rest[0])
            case 'script': case 'timestamps': case 'ansiColor': return Build.run(body)
            case 'properties': case 'pipelineTriggers': case 'disableConcurrentBuilds': case 'buildDiscarder': return [$symbol: name, arguments: rest]
            case 'deleteDir': Build.place.folder.deleteDir(); Build.place.folder.mkdirs(); return null
            case 'pwd': return Build.place.folder.path
        }
        if (!PARAMETERS.containsKey(name)) throw new Failed("No such DSL method '${name}' found among steps")
        Map given = named(name, rest)
        if (name in ['usernamePassword', 'file', 'string', 'gerrit', 'scmGit']) return given + [$symbol: name]
        return body == null ? simple(name, given) : block(name, given, body)
    }

    static Object simple(String name, Map given) {
        switch (name) {
            case 'sh': return sh(given)
            case 'echo': Build.log(given.message.toString()); return null
            case 'error': throw new Failed(given.message.toString())
            case 'unstable': Build.log(given.message.toString()); Build.worsen('UNSTABLE'); return null
            case 'stash': return stash(given)
            case 'unstash':
                if (!Build.stashes[given.name]) throw new Failed("No such saved stash '${given.name}'")
                copy(Build.stashes[given.name], Build.place.folder, '**'); return null
            case 'archiveArtifacts': return archive(given)
            case 'junit': return junit(given)
            case 'input': Build.log("input: ${given.message}"); return given.submitterParameter ? Build.request.approver : null
            case 'fileExists': return new File(Build.place.folder, given.file).exists()
            case 'readFile': return new File(Build.place.folder, given.file).getText('UTF-8')
            case 'writeFile': new File(Build.place.folder, given.file).setText(given.text, 'UTF-8'); return null
        }
        throw new Failed("${name}: needs a block")
    }

    static Object block(String name, Map given, Closure body) {
        switch (name) {
            case 'stage':
                Build.log("[Pipeline] { (${given.name})")
                return Build.runAt(Build.place.with(env: Build.place.env + [STAGE_NAME: given.name.toString()]), body)
            case 'node': return node(body, given.label)
            case 'podTemplate': return Build.run(body)
            case 'dir':
                File folder = new File(Build.place.folder, given.path.toString())
                folder.mkdirs()
                return Build.runAt(Build.place.with(folder: folder), body)
            case 'catchError':
                try { return Build.run(body) } catch (Failed failure) {
                    Build.log("ERROR: ${failure.message}")
                    Build.worsen(given.buildResult ?: 'FAILURE')
                    return null
                }
            case 'retry':
                for (int left = given.count as int; ; left--) {
                    try { return Build.run(body) } catch (Failed failure) { if (left <= 1) throw failure }
                }
            case 'timeout': case 'lock': case 'container': return Build.run(body)
        }
        throw new Failed("${name}: takes no block")
    }

    static Object node(Closure body, Object label = '') {
        File workspace = Build.onAgent()
        try {
            Map env = Build.place.env + [WORKSPACE: workspace.path, WORKSPACE_TMP: workspace.path + '@tmp', NODE_NAME: 'agent', NODE_LABELS: "${label}".toString()]
            return Build.runAt(Build.place.with(env: env, workspace: workspace, folder: workspace), body)
        } finally { Build.busy.remove(workspace) }
    }

    static Object sh(Map given) {
        if (Build.place.workspace == null) throw new Failed('sh: no node to run on')
        if (given.script instanceof GString) throw new Failed("sh: a value is interpolated into the shell: ${given.script}")
        File folder = new File("${Build.place.workspace.path}@tmp", "durable-${Build.serial.incrementAndGet()}")
        folder.mkdirs()
        File script = new File(folder, 'script.sh')
        script.setText(given.script.toString(), 'UTF-8')
        script.executable = true
        List<String> command = script.text.startsWith('#!') ? [script.path] : ['/bin/sh', '-xe', script.path]
        List ended = Build.execute(command, given.returnStdout as boolean)
        if (given.returnStatus) return ended[0]
        if (ended[0] != 0) throw new Failed("script returned exit code ${ended[0]}")
        return given.returnStdout ? ended[1] : null
    }

    static Object withEnv(List pairs, Closure body) {
        Map env = [:]
        for (String pair : Build.variables(pairs*.toString())) env[pair[0..<pair.indexOf('=')]] = pair.substring(pair.indexOf('=') + 1)
        Build.runAt(Build.place.with(env: Build.place.env + env), body)
    }

    static Map credential(String id) {
        if (!Build.request.credentials.containsKey(id)) throw new Failed("Could not find credentials entry with ID '${id}'")
        Build.request.credentials[id]
    }

    static Object withCredentials(List bindings, Closure body) {
        Map env = [:]
        List secrets = []
        for (Map binding : bindings) {
            Map found = credential(binding.credentialsId.toString())
            switch (binding.$symbol) {
                case 'usernamePassword':
                    env[binding.usernameVariable.toString()] = found.username
                    env[binding.passwordVariable.toString()] = found.password
                    secrets << found.password
                    break
                case 'file': env[binding.variable.toString()] = found.file; break
                case 'string': env[binding.variable.toString()] = found.text; secrets << found.text
            }
            if (env.values().any { it == null }) throw new Failed("credentials ${binding.credentialsId} are of another kind than ${binding.$symbol}")
        }
        Build.runAt(Build.place.with(env: Build.place.env + env, secrets: Build.place.secrets + secrets), body)
    }

    static Object parallel(Map branches) {
        boolean failFast = branches.failFast
        List<Throwable> failures = Collections.synchronizedList([])
        List<Thread> threads = branches.findAll { it.key != 'failFast' }.collect { name, body ->
            Thread.start {
                Build.log("[Pipeline] { (Branch: ${name})")
                try { Build.run(body) } catch (Throwable failure) { failures << failure }
            }
        }
        threads*.join()
        if (failures) throw failures[0]
        return null
    }

    /** What the git plugin does: fetch the refspecs and tags, check out the first branch as a detached commit. */
    static Map checkout(Object given) {
        Map scm = given as Map
        if (scm.$class == 'SubversionSCM') return subversion(scm.locations[0].remote.toString())
        Map remote = scm.userRemoteConfigs[0]
        Map login = remote.credentialsId ? credential(remote.credentialsId.toString()) : [:]
        Map env = [GIT_ASKPASS: Build.request.askpass, GIT_TERMINAL_PROMPT: '0', ASKPASS_USR: login.username ?: '', ASKPASS_PSW: login.password ?: '']
        Closure git = { Object... words ->
            List ended = Build.execute(['git', *words*.toString()], true, env)
            if (ended[0] != 0) throw new Failed("git ${words[0]} returned ${ended[0]}")
            ended[1].trim()
        }
        if (!new File(Build.place.folder, '.git').exists()) {
            git('init', '--quiet')
            git('remote', 'add', 'origin', remote.url)
        }
        List refspecs = (remote.refspec ?: '+refs/heads/*:refs/remotes/origin/*').toString().split(' ')
        git('fetch', '--quiet', '--tags', '--force', remote.url, *refspecs)
        String wanted = scm.branches[0].name.toString()
        String commit = null
        for (String name : ["refs/remotes/origin/${wanted}", "refs/remotes/origin/${wanted.replaceFirst('^refs/heads/', '')}", wanted]) {
            List found = Build.execute(['git', 'rev-parse', '--verify', '--quiet', name + '^{commit}'], true)
            if (found[0] == 0) { commit = found[1].trim(); break }
        }
        if (commit == null) throw new Failed("Couldn't find any revision to build: ${wanted}")
        git('checkout', '--quiet', '--force', '--detach', commit)
        [GIT_COMMIT: commit, GIT_URL: remote.url.toString(), GIT_BRANCH: 'detached']
    }

    /** What the Subversion plugin does: check out, and return variables of its own. */
    static Map subversion(String url) {
        Closure svn = { Object... words ->
            List ended = Build.execute(['svn', '--non-interactive', *words*.toString()], true)
            if (ended[0] != 0) throw new Failed("svn ${words[0]} returned ${ended[0]}")
            ended[1].trim()
        }
        svn('checkout', '--quiet', url, '.')
        [SVN_URL: url, SVN_REVISION: svn('info', '--show-item', 'revision')]
    }

    static Set<String> matching(File folder, String pattern) {
        Set<String> found = new TreeSet()
        def matcher = folder.toPath().fileSystem.getPathMatcher("glob:${pattern}")
        folder.eachFileRecurse(FileType.FILES) { File file ->
            def name = folder.toPath().relativize(file.toPath())
            if (matcher.matches(name) && !name.startsWith('.git')) found << name.toString()
        }
        found
    }

    static Set<String> copy(File source, File target, String patterns) {
        Set<String> names = matching(source, patterns)
        for (String name : names) {
            File file = new File(target, name)
            file.parentFile.mkdirs()
            file.bytes = new File(source, name).bytes
        }
        names
    }

    static Object stash(Map given) {
        File target = new File(Build.request.folder, "stashes/${Build.serial.incrementAndGet()}")
        target.mkdirs()
        if (!copy(Build.place.folder, target, given.includes ?: '**') && !given.allowEmpty) throw new Failed("No files included in stash '${given.name}'")
        Build.stashes[given.name.toString()] = target
        return null
    }

    static Object archive(Map given) {
        File target = new File(Build.request.folder, 'archive')
        target.mkdirs()
        Set<String> names = copy(Build.place.folder, target, given.artifacts)
        if (!names && !given.allowEmptyArchive) throw new Failed("No artifacts found that match the file pattern \"${given.artifacts}\"")
        Build.archived.addAll(names)
        return null
    }

    static Object junit(Map given) {
        Set<String> names = matching(Build.place.folder, given.testResults)
        if (!names && !given.allowEmptyResults) throw new Failed('No test report files were found. Configuration error?')
        Build.reports.addAll(names)
        boolean failed = names.any { String name ->
            def suites = new XmlSlurper().parse(new File(Build.place.folder, name))
            suites.'**'.any { it.name() in ['failure', 'error'] }
        }
        if (failed && !given.skipMarkingBuildUnstable) Build.worsen('UNSTABLE')
        return null
    }
}

/** `env` and `currentBuild`, `scm` and `docker` of a Pipeline. */
class Env {
    Object getProperty(String name) { Build.place.env[name] }
    void setProperty(String name, Object value) { throw new Failed("env.${name} is set for all that follows: use withEnv") }
    Map<String, String> getEnvironment() { Build.place.env }
}

class CurrentBuild {
    String getCurrentResult() { Build.result }
    String getResult() { Build.result }
}

class Docker {
    Image image(Object name) { new Image(name: name.toString()) }
}

class Image {
    String name
    /** The test's machine stands for the image; which image and arguments were asked for is noted. */
    Object inside(Object args = '', Closure body) {
        Build.steps << [step: 'docker.image.inside', arguments: [name, args.toString()]]
        Build.run(body)
    }
}

abstract class PipelineScript extends SerializableScript {
    @Override
    Object invokeMethod(String name, Object args) {
        List arguments = args instanceof Object[] ? args as List : [args]
        try {
            return super.invokeMethod(name, args)
        } catch (MissingMethodException missing) {
            if (missing.method != name || !(PipelineScript.isAssignableFrom(missing.type))) throw missing
        }
        if (binding.hasVariable('libraries') && binding.libraries.containsKey(name)) {
            return binding.libraries[name].invokeMethod('call', args)
        }
        if (name == 'pipeline') return new Declarative(this).pipeline(arguments[0])
        return Steps.call(name, arguments)
    }

    @Override
    Object getProperty(String name) {
        if (name == 'any' || name == 'none') return name
        try { return super.getProperty(name) } catch (MissingPropertyException missing) {
            if (binding.hasVariable('libraries') && binding.libraries.containsKey(name)) return binding.libraries[name]
            if (Build.place.env.containsKey(name)) return Build.place.env[name]
            throw missing
        }
    }
}

/** A declarative pipeline as closures: sections in the order and with the meaning that Jenkins documents. */
class Declarative {
    static final List<String> POST = ['always', 'changed', 'fixed', 'regression', 'aborted', 'success', 'unsuccessful', 'unstable', 'failure', 'notBuilt', 'cleanup']
    Object script
    Declarative(Object script) { this.script = script }

    static Map<String, List> sections(Closure body, List<String> allowed) {
        Map<String, List> found = [:]
        Collector collector = new Collector(allowed, found)
        body.delegate = collector
        body.resolveStrategy = Closure.DELEGATE_FIRST
        body.call()
        found
    }

    void pipeline(Closure body) {
        Map all = sections(body, ['agent', 'stages', 'environment', 'post', 'tools', 'options', 'parameters', 'triggers', 'libraries'])
        if (!all.agent || !all.stages) throw new Failed('pipeline: agent and stages are required')
        onAgent(all.agent[0]) { inEnvironment(all.environment) { withPost(all.post) { stages(all.stages[0][0]) } } }
    }

    void onAgent(List agent, Closure body) {
        if (agent == null || agent[0] == 'none') { body.call(); return }
        List asked = agent[0] instanceof Closure ? sections(agent[0], ['label', 'docker', 'kubernetes', 'dockerfile', 'node']).collect { it } : [agent[0]]
        Build.steps << [step: 'agent', arguments: asked*.toString()]
        Steps.node({ ->
            Map found = Steps.checkout(Build.request.scm)
            Build.runAt(Build.place.with(env: Build.place.env + found), body)
        })
    }

    void inEnvironment(List environment, Closure body) {
        if (!environment) { body.call(); return }
        EnvironmentSection section = new EnvironmentSection()
        Closure closure = environment[0][0]
        closure.delegate = section
        closure.resolveStrategy = Closure.DELEGATE_FIRST
        closure.call()
        Build.runAt(Build.place.with(env: Build.place.env + section.env, secrets: Build.place.secrets + section.secrets), body)
    }

    void withPost(List post, Closure body) {
        Throwable failure = null
        try { body.call() } catch (Throwable thrown) { failure = thrown; Build.worsen(thrown instanceof Failed ? thrown.result : 'FAILURE') }
        if (post) {
            Map conditions = sections(post[0][0], POST)
            List<String> due = POST.findAll { applies(it) }
            for (String name : due) if (conditions[name]) steps(conditions[name][0][0])
        }
        if (failure) throw failure
    }

    static boolean applies(String condition) {
        switch (condition) {
            case ['always', 'cleanup', 'changed']: return true
            case 'success': return Build.result == 'SUCCESS'
            case 'unsuccessful': return Build.result != 'SUCCESS'
            case 'failure': return Build.result == 'FAILURE'
            case 'unstable': return Build.result == 'UNSTABLE'
        }
        false
    }

    void stages(Closure body) { for (List found : sections(body, ['stage']).stage ?: []) stage(found[0], found[1]) }

    void stage(Object name, Closure body) {
        Map all = sections(body, ['agent', 'when', 'steps', 'stages', 'parallel', 'matrix', 'post', 'options', 'input', 'tools', 'environment', 'failFast'])
        if (['steps', 'stages', 'parallel', 'matrix'].count { all[it] } != 1) throw new Failed("stage ${name}: exactly one of steps, stages, parallel, matrix")
        if (all.when && !new When().all(all.when[0][0])) { Build.log("Stage \"${name}\" skipped due to when conditional"); return }
        Build.log("[Pipeline] { (${name})")
        onAgent(all.agent ? all.agent[0] : null) { inEnvironment(all.environment) { withPost(all.post) {
            if (all.steps) steps(all.steps[0][0])
            else if (all.stages) stages(all.stages[0][0])
            else if (all.parallel) Steps.parallel(sections(all.parallel[0][0], ['stage']).stage.collectEntries { [(it[0]): { -> stage(it[0], it[1]) }] })
            else matrix(all.matrix[0][0])
        } } }
    }

    void matrix(Closure body) {
        Map all = sections(body, ['axes', 'stages', 'agent', 'environment', 'excludes', 'post', 'when', 'options', 'tools', 'input'])
        List<List> axes = sections(all.axes[0][0], ['axis']).axis.collect { List axis ->
            Map one = sections(axis[0], ['name', 'values', 'notValues'])
            one.values[0].collect { [one.name[0][0], it] }
        }
        Steps.parallel(axes.combinations().collectEntries { List cell ->
            Map env = cell.collectEntries { [(it[0]): it[1].toString()] }
            [(env.toString()): { -> Build.runAt(Build.place.with(env: Build.place.env + env), { ->
                onAgent(all.agent ? all.agent[0] : null) { inEnvironment(all.environment) { stages(all.stages[0][0]) } }
            }) }]
        })
    }

    void steps(Closure body) {
        body.delegate = script
        body.resolveStrategy = Closure.DELEGATE_FIRST // its owner is the section, which knows sections only
        body.call()
    }
}

/** Notes what a section holds; a name that the section does not have ends the build. */
class Collector {
    List<String> allowed
    Map<String, List> found
    Collector(List<String> allowed, Map<String, List> found) { this.allowed = allowed; this.found = found }
    Object invokeMethod(String name, Object args) {
        if (!(name in allowed)) throw new Failed("Undefined section \"${name}\": there are ${allowed.join(', ')}")
        found.computeIfAbsent(name, { [] }) << (args as List)
        return null
    }
}

class EnvironmentSection {
    Map<String, String> env = [:]
    List<String> secrets = []
    private String pending
    Object credentials(String id) { Steps.credential(id) }
    Object getProperty(String name) { name in ['env', 'secrets'] ? this.@"$name" : env.containsKey(name) ? env[name] : Build.place.env[name] }
    void setProperty(String name, Object value) {
        if (!(value instanceof Map)) { env[name] = value.toString(); return }
        if (value.file) env[name] = value.file
        else if (value.text) { env[name] = value.text; secrets << value.text }
        else {
            env += [(name): "${value.username}:${value.password}".toString(), (name + '_USR'): value.username, (name + '_PSW'): value.password]
            secrets << value.password
        }
    }
}

class When {
    List<Boolean> results = []
    boolean all(Closure body) { collect(body).every { it } }
    List<Boolean> collect(Closure body) {
        When inner = new When()
        body.delegate = inner
        body.resolveStrategy = Closure.DELEGATE_FIRST
        body.call()
        inner.results
    }
    void expression(Closure body) { results << (body.call() as boolean) }
    void beforeAgent(boolean value) { }
    void beforeInput(boolean value) { }
    void branch(String name) { results << (Build.place.env.BRANCH_NAME == name) }
    void buildingTag() { results << (Build.place.env.TAG_NAME as boolean) }
    void changeRequest() { results << (Build.place.env.CHANGE_ID as boolean) }
    void environment(Map given) { results << (Build.place.env[given.name] == given.value) }
    void not(Closure body) { results << !all(body) }
    void allOf(Closure body) { results << all(body) }
    void anyOf(Closure body) { results << collect(body).any { it } }
}

Build.request = new JsonSlurper().parse(new File(args[0]))
Map request = Build.request
Build.places.set(new Place(env: request.environment as Map))
CompilerConfiguration configuration = new CompilerConfiguration(scriptBaseClass: PipelineScript.name)
configuration.addCompilationCustomizers(new ImportCustomizer().addImports('Library'))
String text = new File(request.jenkinsfile).getText('UTF-8')
boolean declarative = text =~ /(?m)^pipeline\s*\{/
CompilerConfiguration cps = new CompilerConfiguration(scriptBaseClass: PipelineScript.name)
cps.addCompilationCustomizers(new ImportCustomizer().addImports('Library'), new CpsTransformer())
ClassLoader loader = this.class.classLoader
Map libraries = [:]
Binding binding = new Binding(env: new Env(), currentBuild: new CurrentBuild(), scm: request.scm, docker: new Docker(),
    params: request.environment, POD_LABEL: 'pod', libraries: libraries)
if (request.library) {
    new File(request.library).eachFileMatch(~/.*\.groovy/) { File file ->
        libraries[file.name - '.groovy'] = new GroovyShell(loader, binding, cps).parse(file)
    }
}
String error = ''
try {
    Script script = new GroovyShell(loader, binding, declarative ? configuration : cps).parse(text, 'Jenkinsfile')
    Build.run({ -> script.run() })
} catch (Failed failure) {
    error = failure.message
    Build.worsen(failure.result)
} catch (Throwable thrown) {
    error = thrown.toString()
    thrown.printStackTrace(System.out)
    Build.worsen('FAILURE')
}
Build.log(error ? "ERROR: ${error}" : '')
Build.log("Finished: ${Build.result}")
new File(request.folder, 'result.json').text = JsonOutput.toJson([result: Build.result, error: error, steps: Build.steps, archived: Build.archived, reports: Build.reports])
