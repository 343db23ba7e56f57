// Checks declarative Jenkinsfiles against the sections that the syntax page of Jenkins documents, by their syntax tree.
// Prints one line for each file: FILE: accepted, or FILE: LINE: what is wrong. Exit code 1 when one is refused.
import org.codehaus.groovy.ast.ModuleNode
import org.codehaus.groovy.ast.expr.*
import org.codehaus.groovy.ast.stmt.*
import org.codehaus.groovy.control.CompilationFailedException
import org.codehaus.groovy.control.CompilationUnit
import org.codehaus.groovy.control.Phases

class Wrong extends RuntimeException {
    int line
    Wrong(def node, String text) { super(text); line = node.lineNumber }
}

class Model {
    static final PIPELINE = ['agent', 'stages', 'environment', 'post', 'tools', 'options', 'parameters', 'triggers', 'libraries']
    static final WORK = ['steps', 'stages', 'parallel', 'matrix']
    static final STAGE = WORK + ['agent', 'when', 'post', 'options', 'input', 'tools', 'environment', 'failFast']
    static final MATRIX = ['axes', 'stages', 'agent', 'excludes', 'when', 'post', 'options', 'input', 'tools', 'environment']
    static final POST = ['always', 'changed', 'fixed', 'regression', 'aborted', 'success', 'unsuccessful', 'unstable', 'failure', 'notBuilt', 'cleanup']
    /** agent type → its fields, the required ones first with a star */
    static final AGENTS = [
        label: ['*label', 'customWorkspace'], any: null, none: null,
        node: ['*label', 'customWorkspace'],
        docker: ['*image', 'args', 'label', 'registryUrl', 'registryCredentialsId', 'customWorkspace', 'reuseNode', 'alwaysPull'],
        dockerfile: ['filename', 'dir', 'label', 'args', 'additionalBuildArgs', 'customWorkspace', 'reuseNode', 'registryUrl', 'registryCredentialsId'],
        kubernetes: ['yaml', 'yamlFile', 'label', 'cloud', 'inheritFrom', 'defaultContainer', 'namespace', 'serviceAccount', 'idleMinutes', 'nodeSelector', 'retries', 'workingDir', 'customWorkspace', 'containerTemplate'],
    ]
    static final STAGE_OPTIONS = ['skipDefaultCheckout', 'withCredentials', 'timeout', 'retry', 'timestamps', 'lock', 'ansiColor', 'catchError', 'warnError', 'withContext', 'throttle']
    static final OPTIONS = STAGE_OPTIONS + ['checkoutToSubdirectory', 'preserveStashes', 'quietPeriod', 'skipStagesAfterUnstable', 'parallelsAlwaysFailFast',
        'disableRestartFromStage', 'newContainerPerStage', 'overrideIndexTriggers', 'buildDiscarder', 'disableConcurrentBuilds', 'disableResume', 'rateLimitBuilds',
        'durabilityHint', 'copyArtifactPermission', 'gitLabConnection', 'authorizationMatrix']
    static final TRIGGERS = ['cron', 'pollSCM', 'upstream', 'gerrit', 'githubPush', 'gitlab', 'bitbucketPush', 'GenericTrigger', 'parameterizedCron', 'issueCommentTrigger']
    static final PARAMETERS = ['string', 'text', 'booleanParam', 'choice', 'password', 'file', 'credentials', 'run', 'base64File', 'stashedFile']
    static final TOOLS = ['maven', 'jdk', 'gradle', 'git', 'ant', 'nodejs', 'go']
    static final WHEN = ['branch', 'buildingTag', 'changelog', 'changeset', 'changeRequest', 'environment', 'equals', 'expression', 'tag', 'not', 'allOf', 'anyOf', 'triggeredBy', 'isRestartedRun']
    static final WHEN_OPTIONS = ['beforeAgent', 'beforeInput', 'beforeOptions']
    static final CONDITION_FIELDS = [branch: ['pattern', 'comparator'], tag: ['pattern', 'comparator'], changelog: ['pattern', 'multiline', 'caseSensitive'], changeset: ['pattern', 'comparator', 'caseSensitive', 'glob'],
        environment: ['*name', '*value', 'ignoreCase'], equals: ['*expected', '*actual'], changeRequest: ['id', 'target', 'branch', 'fork', 'url', 'title', 'author', 'authorDisplayName', 'authorEmail', 'comparator'],
        triggeredBy: ['value', 'cause', 'detail']]
    static final INPUT = ['message', 'id', 'ok', 'submitter', 'submitterParameter', 'parameters']
    /** step → its parameters, the required ones with a star; a step alone takes the first without a name */
    static final STEPS = [
        echo: ['*message'], error: ['*message'], sh: ['*script', 'returnStdout', 'returnStatus', 'label', 'encoding'], sleep: ['*time', 'unit'], unstable: ['*message'],
        archiveArtifacts: ['*artifacts', 'allowEmptyArchive', 'excludes', 'fingerprint', 'onlyIfSuccessful', 'defaultExcludes', 'caseSensitive', 'followSymlinks'],
        junit: ['*testResults', 'allowEmptyResults', 'skipPublishingChecks', 'skipMarkingBuildUnstable', 'keepLongStdio', 'checksName', 'healthScaleFactor', 'testDataPublishers', 'skipOldReports'],
        stash: ['*name', 'includes', 'excludes', 'allowEmpty', 'useDefaultExcludes'], unstash: ['*name'], fileExists: ['*file'], pwd: ['tmp'], deleteDir: [],
        writeFile: ['*file', '*text', 'encoding'], readFile: ['*file', 'encoding'], mail: ['*subject', '*body', 'to', 'cc', 'bcc', 'from', 'replyTo', 'charset', 'mimeType'],
        dir: ['*path'], timeout: ['*time', 'unit', 'activity'], retry: ['*count', 'conditions'], waitUntil: ['initialRecurrencePeriod', 'quiet'],
        catchError: ['message', 'buildResult', 'stageResult', 'catchInterruptions'], withEnv: ['*overrides'], withCredentials: ['*bindings'], lock: ['resource', 'label', 'quantity', 'variable', 'inversePrecedence', 'skipIfLocked', 'extra', 'priority'],
        build: ['*job', 'parameters', 'wait', 'propagate', 'quietPeriod', 'waitForStart'], git: ['*url', 'branch', 'credentialsId', 'changelog', 'poll'],
    ]
    static final BLOCKS = ['dir', 'timeout', 'retry', 'waitUntil', 'catchError', 'withEnv', 'withCredentials', 'script', 'timestamps', 'lock', 'container', 'node', 'ws', 'wrap', 'warnError', 'ansiColor', 'withContext']
    static final NUMBERS = [time: 'int', count: 'int']
    static final FLAGS = ['returnStdout', 'returnStatus', 'allowEmptyArchive', 'fingerprint', 'onlyIfSuccessful', 'allowEmptyResults', 'allowEmpty', 'wait', 'propagate', 'reuseNode', 'alwaysPull', 'ignoreCase', 'defaultValue*']
    Set<String> names = new HashSet<String>()

    /** The statements of a closure. */
    static List<Statement> body(ClosureExpression closure) { closure.code instanceof BlockStatement ? closure.code.statements : [closure.code] }

    static Expression expression(Statement statement, String expected) {
        if (statement instanceof ExpressionStatement) return statement.expression
        if (statement instanceof ReturnStatement) return statement.expression
        throw new Wrong(statement, "expected ${expected}")
    }

    /** name, arguments and block of a call without an object; refuses everything else. */
    static Map callIn(Statement statement, String expected) {
        Expression found = expression(statement, expected)
        if (!(found instanceof MethodCallExpression)) throw new Wrong(found, "expected ${expected}")
        callOf(found, expected)
    }

    static Map callOf(MethodCallExpression found, String expected) {
        if (!found.implicitThis) throw new Wrong(found, 'method calls on objects are for script blocks')
        if (!(found.method instanceof ConstantExpression)) throw new Wrong(found, "expected ${expected}")
        List arguments = found.arguments instanceof TupleExpression ? found.arguments.expressions : [found.arguments]
        ClosureExpression block = arguments && arguments[-1] instanceof ClosureExpression ? arguments[-1] : null
        if (block != null) arguments = arguments[0..<-1]
        [name: found.methodAsString, arguments: arguments, block: block, node: found]
    }

    static ClosureExpression blockOf(Map section) {
        if (section.block == null || section.arguments) throw new Wrong(section.node, "${section.name}: expected a block")
        section.block
    }

    static List<Map> sections(ClosureExpression block, List<String> allowed, String where) {
        List<Map> found = body(block).collect { callIn(it, "a section of ${where}") }
        for (Map section : found) {
            if (!(section.name in allowed)) throw new Wrong(section.node, "undefined section ${section.name} of ${where}")
            if (found.count { it.name == section.name } > 1) throw new Wrong(section.node, "multiple occurrences of ${section.name}")
        }
        found
    }

    static List<Statement> notEmpty(Map section) {
        List<Statement> inside = body(blockOf(section))
        if (!inside) throw new Wrong(section.node, "${section.name} can not be empty")
        inside
    }

    void pipeline(ClosureExpression block) {
        if (!body(block)) throw new Wrong(block, 'pipeline can not be empty')
        List<Map> all = sections(block, PIPELINE, 'pipeline')
        for (String required : ['agent', 'stages']) if (!all.any { it.name == required }) throw new Wrong(block, "missing required section ${required}")
        all.each { common(it, OPTIONS) }
        stages(all.find { it.name == 'stages' }, false)
    }

    /** Sections that pipelines and stages share. */
    void common(Map section, List<String> options) {
        switch (section.name) {
            case 'agent': agent(section); break
            case 'environment': environment(section); break
            case 'post': post(section); break
            case 'tools': tools(section); break
            case 'when': when(section); break
            case 'input': input(section); break
            case 'options': calls(section, options); break
            case 'triggers': calls(section, TRIGGERS); break
            case 'parameters': parameters(section); break
            case 'libraries': libraries(section)
        }
    }

    void agent(Map section) {
        if (section.block == null) {
            Expression what = section.arguments ? section.arguments[0] : null
            if (!(what instanceof VariableExpression && what.name in ['any', 'none'])) throw new Wrong(section.node, 'agent: any, none or a block')
            return
        }
        List<Map> types = body(section.block).collect { callIn(it, 'an agent type') }
        if (types.size() != 1) throw new Wrong(section.node, 'agent: exactly one type')
        Map type = types[0]
        if (!AGENTS.containsKey(type.name)) throw new Wrong(type.node, "agent: no type ${type.name}")
        List<String> fields = AGENTS[type.name]
        if (type.block == null) {
            if (type.arguments.size() != 1 || type.name == 'node') {
                if (type.name != 'dockerfile' && type.name != 'kubernetes') throw new Wrong(type.node, "agent ${type.name}: expected one value or a block")
            }
            return
        }
        if (fields == null) throw new Wrong(type.node, "agent ${type.name}: takes no block")
        List<Map> given = body(type.block).collect { callIn(it, "a field of ${type.name}") }
        for (Map field : given) {
            if (!(field.name in fields*.replace('*', ''))) throw new Wrong(field.node, "agent ${type.name}: no field ${field.name}")
            if (field.block == null && field.arguments.size() != 1) throw new Wrong(field.node, "agent ${type.name}: one value for ${field.name}")
        }
        fields.findAll { it.startsWith('*') }.each { String needed ->
            if (!given.any { it.name == needed.substring(1) }) throw new Wrong(type.node, "agent ${type.name}: missing ${needed.substring(1)}")
        }
    }

    void environment(Map section) {
        Set<String> seen = []
        for (Statement statement : notEmpty(section)) {
            Expression pair = expression(statement, 'NAME = value')
            if (!(pair instanceof BinaryExpression) || pair.operation.text != '=') throw new Wrong(pair, 'environment: expected NAME = value')
            if (!(pair.leftExpression instanceof VariableExpression) || !(pair.leftExpression.name ==~ /[A-Za-z_]\w*/)) throw new Wrong(pair, 'environment: not a name')
            if (pair.leftExpression.name ==~ /[_0-9]+/ && !(pair.leftExpression.name ==~ /_+[0-9]*/)) throw new Wrong(pair, 'environment: not a name')
            if (!seen.add(pair.leftExpression.name)) throw new Wrong(pair, "duplicate environment variable ${pair.leftExpression.name}")
            environmentValue(pair.rightExpression)
        }
    }

    void environmentValue(Expression value) {
        if (value instanceof BinaryExpression) {
            if (value.operation.text != '+') throw new Wrong(value, 'environment: values can only be joined with +')
            for (Expression part : [value.leftExpression, value.rightExpression]) {
                if (part instanceof BinaryExpression || part instanceof GStringExpression || part instanceof VariableExpression || part instanceof PropertyExpression) continue
                if (!(part instanceof ConstantExpression) || !(part.value instanceof String)) throw new Wrong(part, 'environment: joined values must be quoted')
            }
            if (value.leftExpression instanceof BinaryExpression) environmentValue(value.leftExpression)
            return
        }
        if (value instanceof GStringExpression || value instanceof ConstantExpression && (value.value instanceof String || value.value instanceof Number)) return
        if (value instanceof MethodCallExpression) {
            List arguments = value.arguments.expressions
            if (arguments.every { it instanceof ConstantExpression && it.value instanceof String || it instanceof GStringExpression || it instanceof NamedArgumentListExpression || it instanceof MapExpression }) return
        }
        throw new Wrong(value, 'environment: values must be quoted or function calls')
    }

    void post(Map section) {
        notEmpty(section)
        sections(section.block, POST, 'post').each { Map condition -> steps(condition) }
    }

    void tools(Map section) {
        for (Statement statement : notEmpty(section)) {
            Map tool = callIn(statement, 'a tool')
            if (!(tool.name in TOOLS)) throw new Wrong(tool.node, "tools: no tool ${tool.name}")
            if (tool.arguments.size() != 1) throw new Wrong(tool.node, "tools: ${tool.name} needs a version")
        }
    }

    static void calls(Map section, List<String> allowed) {
        Set<String> seen = []
        for (Statement statement : notEmpty(section)) {
            Map found = callIn(statement, "one of ${section.name}")
            if (!(found.name in allowed)) throw new Wrong(found.node, "${section.name}: there is no ${found.name}")
            if (found.block != null) throw new Wrong(found.node, "${section.name} cannot have blocks")
            if (!seen.add(found.name)) throw new Wrong(found.node, "${section.name}: ${found.name} twice")
            arguments(found)
            String first = found.name in ['cron', 'pollSCM'] ? 'text' : found.name in ['retry', 'quietPeriod'] ? 'number' : ''
            if (first && found.arguments.size() != 1) throw new Wrong(found.node, "${found.name}: takes one argument")
            if (first == 'text') expectText(found.arguments[0], found.name)
            if (first == 'number') expectNumber(found.arguments[0], found.name)
            if (found.name == 'timeout') step(found, STEPS.timeout)
        }
    }

    static void expectText(Expression value, String name) {
        if (value instanceof ConstantExpression && !(value.value instanceof String)) throw new Wrong(value, "${name}: expecting a text")
        if (value instanceof MapExpression) throw new Wrong(value, "${name}: cannot be a map")
    }

    static void expectNumber(Expression value, String name) {
        if (value instanceof ConstantExpression && !(value.value instanceof Number)) throw new Wrong(value, "${name}: expecting a number")
    }

    /** No mix of named and unnamed arguments; no bare ${}, no closure among them. */
    static void arguments(Map found) {
        boolean named = found.arguments.any { it instanceof MapExpression }
        if (named && found.arguments.size() > 1) throw new Wrong(found.node, "${found.name}: cannot mix named and unnamed arguments")
        for (Expression argument : values(found.arguments)) {
            if (argument instanceof ClosureExpression) throw new Wrong(argument, "${found.name}: a block is no value")
            if (argument instanceof MethodCallExpression && argument.implicitThis && argument.arguments instanceof TupleExpression) {
                if (argument.methodAsString in ['properties', 'stage']) throw new Wrong(argument, "invalid step ${argument.methodAsString}")
                if (argument.arguments.expressions.any { it instanceof ClosureExpression }) throw new Wrong(argument, "${found.name}: a block is no value")
            }
            if (argument instanceof ConstantExpression && argument.value instanceof BigInteger) throw new Wrong(argument, "${found.name}: the number is too large")
        }
    }

    static List<Expression> values(List<Expression> arguments) {
        arguments.collectMany { it instanceof MapExpression ? it.mapEntryExpressions*.valueExpression : [it] }
    }

    static Map<String, Expression> fields(Map found) {
        Map<String, Expression> given = [:]
        for (Expression argument : found.arguments) if (argument instanceof MapExpression) for (MapEntryExpression entry : argument.mapEntryExpressions) {
            String key = entry.keyExpression instanceof ConstantExpression ? entry.keyExpression.value : entry.keyExpression.text
            if (given.containsKey(key)) throw new Wrong(entry, "${found.name}: ${key} twice")
            given[key] = entry.valueExpression
        }
        given
    }

    void parameters(Map section) {
        for (Statement statement : notEmpty(section)) {
            Map found = callIn(statement, 'a parameter')
            if (!(found.name in PARAMETERS)) throw new Wrong(found.node, "parameters: no type ${found.name}")
            if (found.block != null) throw new Wrong(found.node, 'parameters cannot have blocks')
            arguments(found)
            Map given = fields(found)
            List known = ['name', 'defaultValue', 'description', 'choices', 'trim', 'credentialType', 'required', 'projectName', 'filter', 'choicesFrom']
            given.each { String key, Expression value ->
                if (!(key in known)) throw new Wrong(value, "parameters: ${found.name} has no ${key}")
                if (key in ['name', 'description']) expectText(value, key)
                if (found.name == 'booleanParam' && key == 'defaultValue' && value instanceof ConstantExpression && !(value.value instanceof Boolean)) throw new Wrong(value, 'booleanParam: expecting a boolean')
                if (found.name in ['string', 'text', 'password'] && key == 'defaultValue') expectText(value, key)
            }
            if (!given.containsKey('name') ) throw new Wrong(found.node, "parameters: ${found.name} needs a name")
        }
    }

    static void libraries(Map section) {
        for (Statement statement : notEmpty(section)) {
            Map found = callIn(statement, 'lib(...)')
            if (found.name != 'lib' || found.arguments.size() != 1) throw new Wrong(found.node, 'libraries: expected lib(...)')
        }
    }

    void input(Map section) {
        List<Map> given = sections(blockOf(section), INPUT, 'input')
        if (!given.any { it.name == 'message' }) throw new Wrong(section.node, 'input: missing message')
        for (Map field : given) {
            if (field.name == 'parameters') parameters(field)
            else if (field.arguments.size() != 1 || field.block != null) throw new Wrong(field.node, "input: one value for ${field.name}")
        }
    }

    void when(Map section) {
        List<Map> given = notEmpty(section).collect { callIn(it, 'a when condition') }
        List<Map> conditions = given.findAll { !(it.name in WHEN_OPTIONS) }
        if (!conditions) throw new Wrong(section.node, 'empty when')
        conditions.each { condition(it) }
    }

    void condition(Map found) {
        if (!(found.name in WHEN)) throw new Wrong(found.node, "when: no condition ${found.name}")
        if (found.name in ['not', 'allOf', 'anyOf']) {
            if (found.arguments) throw new Wrong(found.node, "when: ${found.name} takes only a block")
            List<Map> inner = notEmpty(found).collect { callIn(it, 'a when condition') }
            if (found.name == 'not' && inner.size() != 1) throw new Wrong(found.node, 'when: one condition is required in not')
            inner.each { condition(it) }
            return
        }
        if (found.name == 'expression') { notEmpty(found); return }
        if (found.block != null) throw new Wrong(found.node, "when: ${found.name} takes no block")
        arguments(found)
        Map given = fields(found)
        List<String> known = CONDITION_FIELDS[found.name]
        if (known == null) { if (found.arguments) throw new Wrong(found.node, "when: ${found.name} takes no value"); return }
        given.each { String key, Expression value ->
            if (!(key in known*.replace('*', ''))) throw new Wrong(value, "when: ${found.name} has no ${key}")
            if (key in ['name', 'pattern', 'comparator']) expectText(value, key)
        }
        boolean alone = found.arguments.size() == 1 && !given
        if (alone && known.any { it.startsWith('*') }) throw new Wrong(found.node, "when: ${found.name} needs names for its values")
        if (alone) expectText(found.arguments[0], found.name)
        known.findAll { it.startsWith('*') }.each { if (!given.containsKey(it.substring(1))) throw new Wrong(found.node, "when: ${found.name} needs ${it.substring(1)}") }
        if (!found.arguments && found.name != 'changeRequest') throw new Wrong(found.node, "when: ${found.name} needs a value")
    }

    void stages(Map section, boolean nested, Closure each = null) {
        for (Statement statement : notEmpty(section)) {
            Map found = callIn(statement, 'a stage')
            if (section.name == 'parallel' && found.name == 'failFast') continue
            if (found.name != 'stage') throw new Wrong(found.node, "${section.name}: expected a stage")
            stage(found, nested)
        }
    }

    void stage(Map found, boolean inParallel) {
        Expression name = found.arguments ? found.arguments[0] : null
        if (!(name instanceof ConstantExpression && name.value instanceof String || name instanceof GStringExpression)) throw new Wrong(found.node, 'expected a stage name')
        if (found.block == null) throw new Wrong(found.node, 'stage does not have a block')
        if (!names.add(name.text)) throw new Wrong(found.node, "duplicate stage name ${name.text}")
        List<Map> all = sections(found.block, STAGE, "stage ${name.text}")
        List<Map> work = all.findAll { it.name in WORK }
        if (work.size() != 1) throw new Wrong(found.node, "stage ${name.text}: exactly one of ${WORK.join(', ')}")
        all.each { common(it, STAGE_OPTIONS) }
        if (inParallel && work[0].name in ['parallel', 'matrix']) throw new Wrong(found.node, "stage ${name.text}: parallel stages cannot contain ${work[0].name}")
        if (work[0].name in ['parallel', 'matrix']) {
            Map bad = all.find { it.name in ['agent', 'tools'] }
            if (bad) throw new Wrong(bad.node, "stage ${name.text}: ${bad.name} is not allowed with ${work[0].name}")
        }
        all.findAll { it.name == 'failFast' }.each { Map flag ->
            if (flag.arguments.size() != 1 || !(flag.arguments[0] instanceof ConstantExpression && flag.arguments[0].value instanceof Boolean)) throw new Wrong(flag.node, 'failFast: expected a boolean')
            if (!(work[0].name in ['parallel', 'matrix'])) throw new Wrong(flag.node, 'failFast is for parallel and matrix')
        }
        if (work[0].name == 'steps') steps(work[0])
        else if (work[0].name == 'matrix') matrix(work[0])
        else stages(work[0], inParallel || work[0].name == 'parallel')
    }

    void matrix(Map section) {
        notEmpty(section)
        List<Map> all = sections(section.block, MATRIX, 'matrix')
        for (String required : ['axes', 'stages']) if (!all.any { it.name == required }) throw new Wrong(section.node, "matrix: missing ${required}")
        all.each { common(it, STAGE_OPTIONS) }
        axes(all.find { it.name == 'axes' }, ['values'])
        all.findAll { it.name == 'excludes' }.each { Map excludes ->
            for (Statement statement : notEmpty(excludes)) {
                Map exclude = callIn(statement, 'an exclude')
                if (exclude.name != 'exclude') throw new Wrong(exclude.node, 'excludes: expected an exclude')
                axes(exclude, ['values', 'notValues'])
            }
        }
        stages(all.find { it.name == 'stages' }, true)
    }

    static void axes(Map section, List<String> kinds) {
        for (Statement statement : notEmpty(section)) {
            Map axis = callIn(statement, 'an axis')
            if (axis.name != 'axis') throw new Wrong(axis.node, 'expected an axis')
            List<Map> all = sections(blockOf(axis), ['name'] + kinds, 'axis')
            Map name = all.find { it.name == 'name' }
            List<Map> values = all.findAll { it.name in kinds }
            if (!name || name.arguments.size() != 1 || !(name.arguments[0].text ==~ /[A-Za-z_]\w*/)) throw new Wrong(axis.node, 'axis: expected a name')
            if (values.size() != 1 || !values[0].arguments || !values[0].arguments.every { it instanceof ConstantExpression || it instanceof GStringExpression }) throw new Wrong(axis.node, 'axis: expected values')
        }
    }

    void steps(Map section) {
        List<Statement> all = notEmpty(section)
        List<Map> found = all.collect { callIn(it, 'a step') }
        if (found.any { it.name == 'parallel' } && found.size() > 1) throw new Wrong(section.node, 'parallel is the only step of its steps')
        found.each { stepCall(it) }
    }

    void stepCall(Map found) {
        if (found.name in ['stage', 'properties', 'pipeline', 'node'] && found.name != 'node') throw new Wrong(found.node, "invalid step ${found.name} used: not allowed in steps")
        if (found.name == 'script') { blockOf(found); return }
        if (found.name == 'parallel') {
            if (!found.arguments) throw new Wrong(found.node, 'parallel: nothing to run')
            fields(found).each { String key, Expression value ->
                if (value instanceof ClosureExpression) body(value).each { stepCall(callIn(it, 'a step')) }
                else if (key != 'failFast' || !(value instanceof ConstantExpression && value.value instanceof Boolean)) throw new Wrong(value, 'parallel: expected a block or failFast')
            }
            return
        }
        arguments(found)
        if (STEPS.containsKey(found.name)) step(found, STEPS[found.name])
        if (found.block != null) {
            if (STEPS.containsKey(found.name) && !(found.name in BLOCKS)) throw new Wrong(found.node, "${found.name}: takes no block")
            steps([name: found.name, arguments: [], block: found.block, node: found.node])
        } else if (found.name in BLOCKS && found.name != 'timestamps') {
            throw new Wrong(found.node, "expected a block with the ${found.name} step")
        }
    }

    static void step(Map found, List<String> known) {
        Map given = fields(found)
        List unnamed = found.arguments.findAll { !(it instanceof MapExpression) }
        given.each { String key, Expression value ->
            if (!(key in known*.replace('*', ''))) throw new Wrong(value, "${found.name}: invalid parameter ${key}")
            if (NUMBERS.containsKey(key)) expectNumber(value, key)
            if (key in FLAGS && value instanceof ConstantExpression && !(value.value instanceof Boolean)) throw new Wrong(value, "${key}: expecting a boolean")
            if (key in ['script', 'message', 'testResults', 'artifacts', 'name', 'url', 'path']) expectText(value, key)
        }
        if (unnamed.size() > 1) throw new Wrong(found.node, "${found.name}: its arguments must be named")
        List required = known.findAll { it.startsWith('*') }*.substring(1)
        if (unnamed && required.size() > 1) throw new Wrong(found.node, "${found.name}: does not take a single parameter")
        if (unnamed && !known) throw new Wrong(found.node, "${found.name}: takes no parameter")
        if (unnamed && NUMBERS.containsKey(known[0].replace('*', ''))) expectNumber(unnamed[0], found.name)
        else if (unnamed && found.name in ['echo', 'sh', 'error', 'dir', 'unstash', 'junit', 'archiveArtifacts']) expectText(unnamed[0], found.name)
        if (unnamed && unnamed[0] instanceof ConstantExpression && unnamed[0].value == null) throw new Wrong(found.node, "${found.name}: missing ${known[0]}")
        if (!unnamed) required.each { if (!given.containsKey(it)) throw new Wrong(found.node, "${found.name}: missing required parameter ${it}") }
    }

    static MethodCallExpression pipelineOf(Statement statement) {
        if (!(statement instanceof ExpressionStatement)) return null
        Expression found = statement.expression
        found instanceof MethodCallExpression && found.implicitThis && found.methodAsString == 'pipeline' ? found : null
    }

    /** Nothing when it is accepted. */
    static String check(File file) {
        try {
            CompilationUnit unit = new CompilationUnit()
            unit.addSource(file)
            unit.compile(Phases.CONVERSION)
            ModuleNode module = unit.AST.modules[0]
            List<MethodCallExpression> found = module.statementBlock.statements.collect { pipelineOf(it) }.findAll()
            if (!found) return '1: there is no pipeline at the top level'
            if (found.size() > 1) return "${found[1].lineNumber}: more than one pipeline"
            List arguments = found[0].arguments.expressions
            if (arguments.size() != 1 || !(arguments[0] instanceof ClosureExpression)) return "${found[0].lineNumber}: pipeline: expected a block"
            new Model().pipeline(arguments[0])
            return null
        } catch (Wrong wrong) {
            return "${wrong.line}: ${wrong.message}"
        } catch (CompilationFailedException failure) {
            return "1: not Groovy: ${failure.message.readLines()[1] ?: failure.message}"
        }
    }
}

int refused = 0
for (String name : args) {
    String wrong = Model.check(new File(name))
    if (wrong) refused++
    println "${name}: ${wrong ?: 'accepted'}"
}
System.out.flush()
System.exit(refused ? 1 : 0)
